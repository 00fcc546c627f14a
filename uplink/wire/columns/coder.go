package columns

// Encoder packs columns. The zero value is ready; it is used again and again
// without allocation.
type Encoder struct {
	m   model
	enc encoder
}

// Start begins a block; what follows is appended to dst.
func (e *Encoder) Start(dst []byte) {
	e.m.reset()
	e.enc = encoder{out: dst, start: len(dst), rng: 1<<32 - 1}
}

// Column packs one column. It leaves values as they are.
func (e *Encoder) Column(values []int64) { e.m.column(&e.enc, values) }

// Finish returns dst with the packed columns behind it.
func (e *Encoder) Finish() []byte { return e.enc.finish() }

// Decoder unpacks columns.
type Decoder struct {
	m   model
	dec decoder
}

// Start begins a block.
func (d *Decoder) Start(packed []byte) {
	d.m.reset()
	d.dec = decoder{in: packed, rng: 1<<32 - 1}
	for range 4 {
		d.dec.shift()
	}
}

// Column unpacks the next column into values, whose length the caller knows and
// has bounded. Every input gives some values.
func (d *Decoder) Column(values []int64) {
	clear(values)
	d.m.column(&d.dec, values)
}

// Unread is how many bytes were left over after the last column.
func (d *Decoder) Unread() int { return len(d.dec.in) }

// encoder is the range coder of LZMA with 16-bit probabilities: low and rng are
// the interval that all decisions so far have left of [0, 1).
type encoder struct {
	out     []byte
	start   int    // of ours in out
	low     uint64 // 33 bits: bit 32 is a carry into what has gone out
	rng     uint32
	cache   byte // the last byte, which a carry may still raise
	pending int  // 0xFF bytes behind it, which a carry would turn over
	begun   bool // there is a cache: the very first byte is always 0 and left out
}

func (e *encoder) bit(v, p uint32) uint32 {
	bound := e.rng >> 16 * p
	if v != 0 {
		e.rng = bound
	} else {
		e.low += uint64(bound)
		e.rng -= bound
	}
	for e.rng < 1<<24 {
		e.rng <<= 8
		e.shift()
	}
	return v
}

func (e *encoder) plain(v uint64, n int) uint64 {
	for i := n - 1; i >= 0; i-- {
		e.rng >>= 1
		if v>>i&1 != 0 {
			e.low += uint64(e.rng)
		}
		if e.rng < 1<<24 {
			e.rng <<= 8
			e.shift()
		}
	}
	return v
}

// shift moves the top byte of low out, as soon as no carry can change it.
func (e *encoder) shift() {
	if low := e.low; low < 0xFF<<24 || low >= 1<<32 {
		carry := byte(low >> 32)
		if e.begun {
			e.out = append(e.out, e.cache+carry)
		}
		for ; e.pending > 0; e.pending-- {
			e.out = append(e.out, 0xFF+carry)
		}
		e.cache, e.begun = byte(low>>24), true
	} else {
		e.pending++
	}
	e.low = e.low << 8 & (1<<32 - 1)
}

// finish picks the number in the interval that takes the fewest bytes, and
// leaves out the zeros at its end: behind the end the decoder reads zeros.
func (e *encoder) finish() []byte {
	end := e.low + uint64(e.rng) - 1
	for drop := 32; drop >= 0; drop -= 8 {
		if v := end >> drop << drop; v >= e.low {
			e.low = v
			break
		}
	}
	for range 5 {
		e.shift()
	}
	for len(e.out) > e.start && e.out[len(e.out)-1] == 0 {
		e.out = e.out[:len(e.out)-1]
	}
	return e.out
}

type decoder struct {
	in        []byte
	rng, code uint32
}

func (d *decoder) shift() {
	b := byte(0)
	if len(d.in) > 0 {
		b, d.in = d.in[0], d.in[1:]
	}
	d.code = d.code<<8 | uint32(b)
}

func (d *decoder) bit(_, p uint32) (v uint32) {
	bound := d.rng >> 16 * p
	if d.code < bound {
		d.rng, v = bound, 1
	} else {
		d.code -= bound
		d.rng -= bound
	}
	for d.rng < 1<<24 {
		d.rng <<= 8
		d.shift()
	}
	return v
}

func (d *decoder) plain(_ uint64, n int) (v uint64) {
	for range n {
		d.rng >>= 1
		v <<= 1
		if d.code >= d.rng {
			d.code -= d.rng
			v |= 1
		}
		if d.rng < 1<<24 {
			d.rng <<= 8
			d.shift()
		}
	}
	return v
}
