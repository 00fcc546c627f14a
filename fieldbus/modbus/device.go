package modbus

import (
	"encoding/binary"
	"hash/maphash"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus/lateness"
)

// Defaults of Timing, and the bound that holds whatever was learnt.
const (
	defaultReplyMin = 50 * time.Millisecond
	defaultReplyMax = 250 * time.Millisecond
	defaultQuiet    = time.Second

	longestReply = 5 * time.Second
)

// Timing is what is known of a device's pace beforehand. Zero fields take the
// defaults: 50 ms, 250 ms, 1 s, no pause.
type Timing struct {
	// ReplyMin is the least time that the device is given to begin its answer,
	// however fast it has been so far.
	ReplyMin time.Duration
	// ReplyMax is how long a device is waited for while its pace is unknown.
	ReplyMax time.Duration
	// Quiet is the least time for which an answer to a request that was given up
	// is still expected. It grows with the lateness of the device.
	Quiet time.Duration
	// Pause is how long the device has to be left alone after each answer.
	Pause time.Duration
}

// limits returns the bounds within which the device's pace is learnt.
func (t Timing) limits() lateness.Limits {
	if t.ReplyMin <= 0 {
		t.ReplyMin = defaultReplyMin
	}
	if t.ReplyMax <= 0 {
		t.ReplyMax = defaultReplyMax
	}
	if t.Quiet <= 0 {
		t.Quiet = defaultQuiet
	}
	return lateness.Limits{
		TimeoutLeast: t.ReplyMin, TimeoutFirst: max(t.ReplyMin, t.ReplyMax), TimeoutMost: max(t.ReplyMax, longestReply),
		QuietLeast: t.Quiet, Pause: t.Pause,
	}
}

// device is what a master knows of one address.
type device struct {
	*lateness.Memory
	client   gomodbus.Client
	reserved map[lateness.Shape]bool // what the planned reads' answers look like
	widths   widths                  // what it refused beside what it serves
	block    lateness.Block          // of the request that is about to be made; 0: told from its bytes
	sampled  time.Time               // the earliest time at which the last answer can have been sampled
}

func newDevice() *device { return &device{Memory: lateness.New(Timing{}.limits())} }

// late takes in a frame that nobody waits for, and tells whether it answers an
// earlier request.
func (d *device) late(frame []byte, now time.Time) bool {
	s := shapeOf(frame)
	return d.Seen(func(a *lateness.Asked) bool { return a.Shape == s }, now)
}

var seed = maphash.MakeSeed()

// blockOf tells what a request is about by its bytes: function and data.
func blockOf(adu []byte) lateness.Block {
	return lateness.Block(maphash.Bytes(seed, adu[1:len(adu)-2]) | 1)
}

// block tells what r is about: the same registers by either function, or bits.
func (r *Request) block() lateness.Block {
	var b [4]byte
	binary.BigEndian.PutUint16(b[:], r.Start)
	binary.BigEndian.PutUint16(b[2:], uint16(r.Count))
	block := lateness.Block(binary.BigEndian.Uint32(b[:]))<<1 | 1
	if r.bits() { // coils and discrete inputs have numbers of their own
		block |= lateness.Block(r.Functions) << 40
	}
	return block
}
