package wire

import (
	"bytes"
	"compress/flate"
)

// Compression names how a record's body is packed.
type Compression uint32

const (
	Stored  Compression = 0
	Deflate Compression = 1 // RFC 1951
)

// compressFrom is the body size from which compression is tried.
const compressFrom = 256

// Packer turns bodies into payloads: what the queue stores, and what a record
// carries behind its epoch, lane and sequence number. The zero value is ready; it
// is not for concurrent use.
type Packer struct{ out bytes.Buffer }

// AppendPayload appends the protobuf fields kind, compression and body of a
// Record. Blocks are packed already; other kinds are deflated where that makes
// them smaller.
func (p *Packer) AppendPayload(dst []byte, kind Kind, body []byte) []byte {
	packed, how := body, Stored
	if kind != KindBlock && len(body) >= compressFrom {
		if b := p.deflate(body); len(b)+2 < len(body) {
			packed, how = b, Deflate
		}
	}
	dst = appendUint(dst, 4, uint64(kind))
	dst = appendUint(dst, 5, uint64(how))
	return appendBytes(dst, 6, packed)
}

// deflate makes its writer each time: the memory is large and the use rare, a
// catalogue at start.
func (p *Packer) deflate(body []byte) []byte {
	p.out.Reset()
	w, _ := flate.NewWriter(&p.out, flate.BestCompression) // the level is a valid one
	// A bytes.Buffer takes every write.
	_, _ = w.Write(body)
	_ = w.Close()
	return p.out.Bytes()
}
