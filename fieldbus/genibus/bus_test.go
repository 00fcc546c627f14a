package genibus_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/linetest"
)

var mode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// bus is a master and units on a wire in memory, whose clock moves only when
// somebody waits.
type bus struct {
	clk    *linetest.Clock
	port   *linetest.Port
	master *genibus.Master
	units  []*genitest.Unit
	// turnaround of a unit's reply, and what becomes of it: nil delivers it.
	turnaround time.Duration
	disturb    func(reply genibus.Telegram, at time.Time)
	sent       []genibus.Telegram
	at         []time.Time
}

func newBus(t testing.TB, units ...*genitest.Unit) *bus {
	t.Helper()
	b := &bus{clk: linetest.NewClock(), units: units, turnaround: 5 * time.Millisecond}
	b.port = linetest.NewPort(b.clk)
	b.port.OnWrite = b.heard
	b.master = genibus.NewMaster(b.port.Line(mode), b.clk, 1)
	return b
}

// heard has the units hear what was sent.
func (b *bus) heard(telegram []byte, at time.Time) {
	var d genibus.Decoder
	d.Feed(telegram)
	t, ok := d.Next()
	if !ok || t.Size() != len(telegram) {
		panic("the master sent something that is no telegram")
	}
	t.PDU = append([]byte{}, t.PDU...)
	b.sent, b.at = append(b.sent, t), append(b.at, at)
	for _, u := range b.units {
		if reply, ok := u.Answer(t); ok {
			end := at.Add(genibus.Wire(len(telegram)) + b.turnaround + genibus.Wire(reply.Size()))
			if b.disturb != nil {
				b.disturb(reply, end)
				continue
			}
			b.port.Deliver(end, reply.Append(nil)...)
		}
	}
}

// unit is a pump with a byte in each of a few items: its value is its ID.
func unit(address byte) *genitest.Unit {
	u := genitest.New(address, 1, 10, 1)
	for id := byte(21); id < 100; id++ {
		u.Put(genibus.Measured, id, genibus.Meaning{Format: genibus.Scaled, Unit: 30, Range: 254}, id)
	}
	for _, id := range []byte{2, 5, 6, 7, 8, 24} {
		u.Values[genitest.Item{Class: genibus.Commands, ID: id}] = 0
	}
	u.Values[genitest.Item{Class: genibus.Reference, ID: 1}] = 0
	return u
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
