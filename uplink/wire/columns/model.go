package columns

import "math/bits"

// prob is the probability of a 1, in 65536ths, and how often it was met: it
// follows quickly at first and settles.
type prob struct{ p, n uint16 }

const (
	one       = 1 << 16
	surest    = 48 // no decision is surer than 48 in 65536
	settled   = 48 // meetings after which the rate stays
	ownWeight = 2  // of what a column taught, against what all columns did
)

// rates[n] is the step after n meetings, 2/(2n+3) in 65536ths.
var rates = func() (r [settled + 1]int64) {
	for n := range r {
		r[n] = one * 2 / int64(2*n+3)
	}
	return r
}()

func (p *prob) meet(bit uint32) {
	target := int64(0)
	if bit != 0 {
		target = one - 1
	}
	p.p = uint16(int64(p.p) + (target-int64(p.p))*rates[p.n]>>16)
	if p.n < settled {
		p.n++
	}
}

// mixed is the probability that two of them suggest, the better known one
// counting for more.
func mixed(all, own *prob) uint32 {
	a, o := 2*uint32(all.n)+1, ownWeight*(2*uint32(own.n)+1)
	return min(max((a*uint32(all.p)+o*uint32(own.p))/(a+o), surest), one-surest)
}

func (p *prob) alone() uint32 { return min(max(uint32(p.p), surest), one-surest) }

// coder is one direction: an encoder codes the decision that it is given, a
// decoder returns the one it reads.
type coder interface {
	bit(v, p uint32) uint32
	plain(v uint64, n int) uint64 // n equally likely bits
}

const (
	sizes     = 65 // bit lengths of a magnitude, 0 to 64
	calms     = 13 // classes of recent movement, and one for "nothing yet"
	lastSizes = 7
)

// model holds the probabilities. What all columns share is kept over a block;
// what a column teaches about itself is forgotten at its end.
type model struct {
	shared struct {
		first     [sizes]prob // is the first value longer than i bits?
		firstSign prob
		longer    [calms + 1][lastSizes][sizes]prob // is the difference longer than i bits?
		second    [sizes]prob                       // the bit below the highest, by length
		sign      [3][5][5]prob                     // by the last sign, the last length and this one
	}
	own struct {
		longer, second [sizes]prob
		sign           [3]prob
	}
}

// unlearnt is a model that has met nothing: every decision may go either way.
var unlearnt = func() (m model) {
	fill := func(probs []prob) {
		for i := range probs {
			probs[i] = prob{p: one / 2}
		}
	}
	s, o := &m.shared, &m.own
	fill(s.first[:])
	s.firstSign = prob{p: one / 2}
	for i := range s.longer {
		for j := range s.longer[i] {
			fill(s.longer[i][j][:])
		}
	}
	fill(s.second[:])
	for i := range s.sign {
		for j := range s.sign[i] {
			fill(s.sign[i][j][:])
		}
	}
	fill(o.longer[:])
	fill(o.second[:])
	fill(o.sign[:])
	return m
}()

func (m *model) reset() { m.shared = unlearnt.shared }

func (m *model) resetOwn() { m.own = unlearnt.own }

// decide codes one decision of a single probability.
func decide(c coder, v uint32, p *prob) uint32 {
	v = c.bit(v, p.alone())
	p.meet(v)
	return v
}

// decide2 codes one decision that all columns and this one have a say in.
func decide2(c coder, v uint32, all, own *prob) uint32 {
	v = c.bit(v, mixed(all, own))
	all.meet(v)
	own.meet(v)
	return v
}

func truth(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// column codes the values, or fills them in.
func (m *model) column(c coder, values []int64) {
	if len(values) == 0 {
		return
	}
	m.resetOwn()
	last := m.firstValue(c, values[0])
	values[0] = last
	calm, lastSize, lastSign := calms, 0, 0
	recent := uint64(0) // of the magnitudes, a running mean in 16ths
	for i := 1; i < len(values); i++ {
		d := m.difference(c, values[i]-last, calm, lastSize, lastSign)
		last += d
		values[i] = last
		size, sign := magnitude(d)
		amount := min(size, 1<<20) * 16
		if i == 1 {
			recent = amount
		} else {
			recent = (3*recent + amount) / 4
		}
		calm, lastSize, lastSign = min(bits.Len64(recent), calms-1), bits.Len64(size), sign
	}
}

// magnitude splits a difference into its size and its sign: 0 for none, 1 for
// up, 2 for down. The size of the least integer is 2^63.
func magnitude(d int64) (size uint64, sign int) {
	switch {
	case d > 0:
		return uint64(d), 1
	case d < 0:
		return -uint64(d), 2
	}
	return 0, 0
}

func signed(size uint64, down uint32) int64 {
	if down != 0 {
		size = -size
	}
	return int64(size)
}

// firstValue has nothing before it that helps but the other columns' lengths.
func (m *model) firstValue(c coder, v int64) int64 {
	s := &m.shared
	size, sign := magnitude(v)
	length, want := 0, bits.Len64(size)
	for length < 64 && decide(c, truth(want > length), &s.first[length]) != 0 {
		length++
	}
	if length == 0 {
		return 0
	}
	size = 1<<(length-1) | c.plain(size&(1<<(length-1)-1), length-1)
	return signed(size, decide(c, truth(sign == 2), &s.firstSign))
}

func (m *model) difference(c coder, d int64, calm, lastSize, lastSign int) int64 {
	s, o := &m.shared, &m.own
	size, sign := magnitude(d)
	longer := &s.longer[calm][min(lastSize, lastSizes-1)]
	length, want := 0, bits.Len64(size)
	for length < 64 && decide2(c, truth(want > length), &longer[length], &o.longer[length]) != 0 {
		length++
	}
	if length == 0 {
		return 0
	}
	if length == 1 {
		size = 1
	} else {
		below := length - 2 // bits below the second
		second := decide2(c, uint32(size>>below)&1, &s.second[length], &o.second[length])
		size = 1<<(length-1) | uint64(second)<<below | c.plain(size&(1<<below-1), below)
	}
	return signed(size, decide2(c, truth(sign == 2), &s.sign[lastSign][min(lastSize, 4)][min(length, 4)], &o.sign[lastSign]))
}
