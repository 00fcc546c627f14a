package wire

import (
	"bytes"
	"compress/flate"

	"google.golang.org/protobuf/encoding/protowire"
)

// Compression names how a record's body is packed.
type Compression uint32

const (
	Stored  Compression = 0
	Deflate Compression = 1 // RFC 1951
)

// compressFrom is the body size below which compression is not tried.
const compressFrom = 64

// Packer turns bodies into payloads: what the queue stores, and what a record
// carries behind its epoch, lane and sequence number. It keeps its scratch
// space, so that packing allocates nothing once it is warm. The zero value is
// ready; it is not for concurrent use.
type Packer struct {
	out bytes.Buffer
	fl  *flate.Writer
}

// AppendPayload appends the protobuf fields kind, compression and body of a
// Record. It compresses where that makes the body smaller.
func (p *Packer) AppendPayload(dst []byte, kind Kind, body []byte) []byte {
	packed, how := body, Stored
	if len(body) >= compressFrom {
		if b := p.deflate(body); len(b)+2 < len(body) {
			packed, how = b, Deflate
		}
	}
	dst = appendUint(dst, 4, uint64(kind))
	dst = appendUint(dst, 5, uint64(how))
	dst = protowire.AppendTag(dst, 6, protowire.BytesType)
	return protowire.AppendBytes(dst, packed)
}

func (p *Packer) deflate(body []byte) []byte {
	p.out.Reset()
	if p.fl == nil {
		p.fl, _ = flate.NewWriter(&p.out, flate.DefaultCompression) // the level is a valid one
	} else {
		p.fl.Reset(&p.out)
	}
	// A bytes.Buffer takes every write.
	_, _ = p.fl.Write(body)
	_ = p.fl.Close()
	return p.out.Bytes()
}
