package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/linetest"
)

// geniOutcome is what became of transactions on bad days.
type geniOutcome struct {
	transactions, answered, failed, wrong int
	disturbed                             int // replies that did not simply arrive
}

// geniDay is a day on a bus on which replies are lost, late, repeated, damaged,
// cut, in pieces, behind noise or in another's name. A unit's values are made
// from its address, the item and the number of its answer, so that a value tells
// where it is from and when it was measured.
type geniDay struct {
	rng     *rand.Rand
	clk     *linetest.Clock
	port    *linetest.Port
	samples map[byte][]time.Time // when each answer of a unit was measured
	outcome geniOutcome
}

// geniDayLength is the transactions of a day. Each day has a master of its own,
// which has yet to learn what its units are capable of.
const geniDayLength = 2000

// geniDays plays days until so many transactions have been made.
func geniDays(ctx context.Context, seed uint64, transactions int) (all geniOutcome, err error) {
	for ; all.transactions < transactions; seed++ {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		d := &geniDay{rng: rand.New(rand.NewPCG(seed, 0x6E1)), clk: linetest.NewClock(), samples: map[byte][]time.Time{}}
		d.port = linetest.NewPort(d.clk)
		d.port.OnWrite = d.heard
		if err := d.play(ctx); err != nil {
			return all, err
		}
		o := d.outcome
		all.transactions += o.transactions
		all.answered += o.answered
		all.failed += o.failed
		all.wrong += o.wrong
		all.disturbed += o.disturbed
	}
	return all, nil
}

// geniValue is an item of a unit in one of its answers.
func geniValue(address, id byte, sample int) byte { return byte(value(address, uint16(id), sample)) }

// play makes the day's transactions. A value is wrong if it is another item's, or
// was measured before its stated time.
func (d *geniDay) play(ctx context.Context) error {
	m := genibus.NewMaster(d.port.Line(geniMode), d.clk, 1)
	for range geniDayLength {
		to := byte(genibus.FirstSlave + d.rng.IntN(4))
		ids := make([]byte, 4+d.rng.IntN(6))
		for i := range ids {
			ids[i] = byte(d.rng.IntN(256))
		}
		pdu := genibus.AppendGet(nil, genibus.Measured, ids...)
		var reply []byte
		var at time.Time
		var err error
		for range 2 { // as the specification allows
			d.outcome.transactions++
			reply, at, err = m.Do(ctx, to, pdu, genibus.SmallestBuffer)
			if err == nil {
				break
			}
			if !errors.Is(err, genibus.ErrNoAnswer) && !errors.Is(err, genibus.ErrDamaged) {
				return err
			}
			d.outcome.failed++
		}
		if err != nil {
			continue
		}
		d.outcome.answered++
		a, _, _, err := genibus.Next(reply)
		if err != nil {
			return err
		}
		if a.Ack() != genibus.OK || !d.held(to, ids, a.Data, at) {
			d.outcome.wrong++
		}
	}
	return nil
}

// held tells whether a unit had these values at the time or later.
func (d *geniDay) held(to byte, ids, values []byte, at time.Time) bool {
	samples := d.samples[to]
	for n := len(samples) - 1; n >= 0 && !samples[n].Before(at); n-- {
		same := true
		for i, id := range ids {
			same = same && values[i] == geniValue(to, id, n)
		}
		if same {
			return true
		}
	}
	return false
}

// heard has a unit answer.
func (d *geniDay) heard(b []byte, at time.Time) {
	var dec genibus.Decoder
	dec.Feed(b)
	t, ok := dec.Next()
	if !ok || t.To < genibus.FirstSlave || t.To >= genibus.FirstSlave+4 {
		return
	}
	measured := at.Add(genibus.Wire(len(b)))
	n := len(d.samples[t.To])
	d.samples[t.To] = append(d.samples[t.To], measured)
	reply := geniReply(t, func(_ genibus.Class, id byte) byte { return geniValue(t.To, id, n) })
	turnaround := time.Duration(3+d.rng.IntN(48)) * time.Millisecond
	d.disturb(reply, measured.Add(turnaround+genibus.Wire(reply.Size())))
}

// disturb delivers a reply, or does to it what happens to replies. Lateness stays
// within what a master expects that has learnt nothing yet; bits flip as few at a time
// as the checksum is made for.
func (d *geniDay) disturb(reply genibus.Telegram, at time.Time) {
	late := func(most int) time.Time { return at.Add(time.Duration(d.rng.IntN(most)) * time.Millisecond) }
	b := reply.Append(nil)
	what := d.rng.IntN(24)
	if what < 9 {
		d.outcome.disturbed++
	}
	switch what {
	case 0: // lost
	case 1:
		d.port.Deliver(late(400), b...)
	case 2: // said twice
		d.port.Deliver(at, b...)
		d.port.Deliver(late(90), b...)
	case 3:
		for range 1 + d.rng.IntN(3) {
			b[d.rng.IntN(len(b))] ^= 1 << d.rng.IntN(8)
		}
		d.port.Deliver(at, b...)
	case 4: // cut
		d.port.Deliver(at, b[:1+d.rng.IntN(len(b)-1)]...)
	case 5: // behind noise
		noise := []byte{byte(d.rng.IntN(256)), byte(d.rng.IntN(256)), byte(d.rng.IntN(256))}
		d.port.Deliver(at, append(noise[:1+d.rng.IntN(3)], b...)...)
	case 6: // in pieces
		k := 1 + d.rng.IntN(len(b)-1)
		d.port.Deliver(at, b[:k]...)
		d.port.Deliver(late(25), b[k:]...)
	case 7: // of a device that nobody asks
		reply.From = stranger
		d.port.Deliver(at, reply.Append(nil)...)
	case 8: // late and twice
		first := late(350)
		d.port.Deliver(first, b...)
		d.port.Deliver(first.Add(time.Duration(d.rng.IntN(90))*time.Millisecond), b...)
	default:
		d.port.Deliver(at, b...)
	}
}
