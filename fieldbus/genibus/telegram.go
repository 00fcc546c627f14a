package genibus

import (
	"encoding/binary"
	"fmt"
)

// Start is the first byte of a telegram: what kind it is.
type Start byte

// The three kinds of telegram.
const (
	DataRequest Start = 0x27 // the addressed device answers
	DataMessage Start = 0x26 // nobody answers
	DataReply   Start = 0x24 // the answer to a Data Request
)

func (s Start) String() string {
	switch s {
	case DataRequest:
		return "data request"
	case DataMessage:
		return "data message"
	case DataReply:
		return "data reply"
	}
	return fmt.Sprintf("start byte 0x%02X", byte(s))
}

// Addresses with a meaning (GENIbus Protocol Specification, chapter on
// addressing). Masters use 1 to 29, slaves 32 to 231.
const (
	FirstSlave        = 32
	LastSlave         = 231
	FactoryAddress    = 231 // of a device that nobody has given an address
	FactoryGroup      = 247
	ConnectionRequest = 254
	Broadcast         = 255

	// LastMaster is the highest address of a master.
	LastMaster = 29
)

// Sizes in bytes.
const (
	// Overhead is what a telegram takes beside its PDU: start, length, two
	// addresses, two bytes of CRC.
	Overhead = 6
	// MaxPDU is the most that the length byte allows.
	MaxPDU = 253
	// MaxTelegram is the longest telegram there can be.
	MaxTelegram = MaxPDU + Overhead
	// SmallestBuffer is the buffer that every device has at least.
	SmallestBuffer = 70
)

// Telegram is one telegram, start byte and CRC aside.
type Telegram struct {
	Start    Start
	To, From byte
	PDU      []byte // whole APDUs; may be empty
}

// Size is the telegram's length on the wire.
func (t Telegram) Size() int { return len(t.PDU) + Overhead }

// Append appends the telegram to b as it travels. A PDU longer than MaxPDU is a
// mistake of the program, and panics.
func (t Telegram) Append(b []byte) []byte {
	if len(t.PDU) > MaxPDU {
		panic(fmt.Sprintf("genibus: a PDU of %d bytes; a telegram holds %d", len(t.PDU), MaxPDU))
	}
	at := len(b)
	b = append(b, byte(t.Start), byte(len(t.PDU)+2), t.To, t.From)
	b = append(b, t.PDU...)
	return binary.BigEndian.AppendUint16(b, CRC(b[at+1:]))
}

// Malformed counts what was received and was no sound telegram, by kind. None
// of it ever becomes a value.
type Malformed struct {
	Noise    uint64 // bytes that begin no telegram
	Length   uint64 // telegrams whose length byte is below 2
	Checksum uint64 // telegrams with a wrong CRC
	Cut      uint64 // telegrams that stopped before their end
	PDU      uint64 // telegrams with a sound CRC whose APDUs do not add up
}

// total is the sum of the kinds.
func (m Malformed) total() uint64 { return m.Noise + m.Length + m.Checksum + m.Cut + m.PDU }

// Decoder finds the telegrams in a stream of bytes that may hold anything else
// as well. The zero Decoder is ready. It allocates nothing.
type Decoder struct {
	Malformed Malformed

	buf     [2 * MaxTelegram]byte
	n, from int // buf[from:n] is not dealt with yet
	settled int // the size of the telegram that Next returned last
}

// Feed takes in bytes and returns how many there was room for. As long as Next
// is called until it finds nothing, there is room for MaxTelegram.
func (d *Decoder) Feed(b []byte) int {
	d.settle()
	if d.from > 0 {
		d.n = copy(d.buf[:], d.buf[d.from:d.n])
		d.from = 0
	}
	k := copy(d.buf[d.n:], b)
	d.n += k
	return k
}

// settle forgets the telegram that Next returned.
func (d *Decoder) settle() {
	d.from += d.settled
	d.settled = 0
}

// Pending is how many bytes have come that may be the beginning of a telegram.
func (d *Decoder) Pending() int { return d.n - d.from - d.settled }

// Missing is how many bytes the telegram that has begun still lacks, at least;
// zero when none has begun.
func (d *Decoder) Missing() int {
	b := d.buf[d.from+d.settled : d.n]
	switch {
	case len(b) == 0:
		return 0
	case len(b) == 1:
		return Overhead - 1
	}
	return int(b[1]) + 4 - len(b)
}

// Reset forgets what has come, without counting it.
func (d *Decoder) Reset() { d.n, d.from, d.settled = 0, 0, 0 }

// Next returns the next sound telegram, without its Request-for-Service bytes, valid until Next, Feed, Silence or Reset
// is called. It returns false when more bytes have to come first.
func (d *Decoder) Next() (Telegram, bool) {
	d.settle()
	for d.from < d.n {
		b := d.buf[d.from:d.n]
		if s := Start(b[0]); s != DataRequest && s != DataMessage && s != DataReply {
			d.Malformed.Noise++
			d.from++
			continue
		}
		if len(b) < 2 {
			break
		}
		if b[1] < 2 {
			d.Malformed.Length++
			d.from++
			continue
		}
		size := int(b[1]) + 4
		if len(b) < size {
			break
		}
		if CRC(b[1:size-2]) != binary.BigEndian.Uint16(b[size-2:size]) {
			d.Malformed.Checksum++
			d.from++ // the telegram may begin within what seemed to be one
			continue
		}
		pdu, ok := whole(b[4 : size-2])
		if !ok {
			d.Malformed.PDU++
			d.from += size
			continue
		}
		d.settled = size
		return Telegram{Start: Start(b[0]), To: b[2], From: b[3], PDU: pdu}, true
	}
	return Telegram{}, false
}

// Silence says that the line has been silent for longer than a telegram may
// pause. The telegram that has begun will not be completed; what came after its
// first byte may still hold one, so Next is to be called again. It returns false
// when nothing had begun.
func (d *Decoder) Silence() bool {
	d.settle()
	if d.from == d.n {
		return false
	}
	d.Malformed.Cut++
	d.from++
	return true
}
