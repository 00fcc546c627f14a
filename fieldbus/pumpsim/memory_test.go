package pumpsim_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/pumpsim"
	"penstock/fieldbus/pumpsim/fault"
)

// bench is a line in memory with pumps at 1, 2, …, a master on it, and the
// answers that the pumps gave, the last few of them.
type bench struct {
	clk    *linetest.Clock
	sim    *pumpsim.Simulator
	line   *fieldbus.Line
	master *modbus.Master
	served []pumpsim.Served
}

func newBench(t testing.TB, o pumpsim.Options, faults string, models ...string) *bench {
	t.Helper()
	b := &bench{clk: linetest.NewClock()}
	o.Clock = b.clk
	var err error
	if o.Faults, err = fault.Parse(faults); err != nil {
		t.Fatal(err)
	}
	o.OnServed = func(e pumpsim.Served) {
		if len(b.served) == 4096 {
			b.served = b.served[:copy(b.served, b.served[2048:])]
		}
		b.served = append(b.served, e)
	}
	if b.sim, err = pumpsim.New(o); err != nil {
		t.Fatal(err)
	}
	for i, m := range models {
		if _, err := b.sim.AddPump(pumpsim.PumpOptions{Address: i + 1, Model: m}); err != nil {
			t.Fatal(err)
		}
	}
	mode := o.Mode
	if mode == (fieldbus.Mode{}) {
		mode = fieldbus.Default
	}
	b.line = fieldbus.NewLine("in memory", mode, b.sim.Open, b.clk)
	if err := b.line.Open(); err != nil {
		t.Fatal(err)
	}
	b.master = modbus.NewMaster(b.line)
	return b
}

func modeOf(t testing.TB, s string) fieldbus.Mode {
	t.Helper()
	m, err := fieldbus.ParseMode(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// truthful tells whether values could be what the device measured at the time
// at or later: one answer to just these registers had them.
func (b *bench) truthful(address, start int, values []uint16, at time.Time) bool {
	for i := len(b.served) - 1; i >= 0; i-- {
		e := &b.served[i]
		from := start - e.Start
		if e.Address == address && (e.Function == 3 || e.Function == 4) && from >= 0 && from+len(values) <= len(e.Values) &&
			!e.Sampled.Before(at) && slices.Equal(e.Values[from:from+len(values)], values) {
			return true
		}
	}
	return false
}

func TestAMasterReadsAPumpInMemory(t *testing.T) {
	b := newBench(t, pumpsim.Options{Seed: 1}, "", "magna3")
	values := make([]uint16, 20)
	began := b.clk.Now()
	at, err := b.master.Read(context.Background(), modbus.Request{Address: 1, Start: 300, Count: 20, First: 300, Last: 357}, values)
	if err != nil {
		t.Fatal(err)
	}
	if !b.truthful(1, 300, values, at) {
		t.Errorf("read %v, served %+v", values, b.served)
	}
	// 3.5 characters before the request and after it, 8 bytes out, 5 ms, 45 bytes back.
	ideal := modbus.Silence(fieldbus.Default)*2 + fieldbus.Default.Wire(8) + 5*time.Millisecond + fieldbus.Default.Wire(45)
	if took := b.clk.Now().Sub(began); took < ideal || took > ideal+10*time.Microsecond {
		t.Errorf("the transaction took %v of the line; its wire time is %v", took, ideal)
	}
}

func TestTheSameSeedPlaysTheSameDayInMemory(t *testing.T) {
	day := func() string {
		var log bytes.Buffer
		b := newBench(t, pumpsim.Options{Seed: 7, Served: &log}, "late=0.2:10ms-400ms,flip=0.1,repeat=0.1,noise=0.1,split=0.1,foreign=0.1", "magna3", "epump")
		for i := range 200 {
			var values [12]uint16
			// What comes of it is in the log; errors are part of the day.
			_, _ = b.master.Read(context.Background(), modbus.Request{Address: byte(1 + i%2), Start: 200, Count: 12, First: 200, Last: 224}, values[:])
		}
		return log.String()
	}
	first := day()
	if n := strings.Count(first, "\n"); n < 200 {
		t.Fatalf("only %d answers in the log", n)
	}
	if second := day(); second != first {
		t.Error("two runs of one seed differ")
	}
}

func TestNoFaultMakesAWrongValue(t *testing.T) {
	// Every fault that the checksum is certain to find, and those that fool
	// masters: late, repeated, foreign and split answers.
	const faults = "late=0.05:20ms-500ms,repeat=0.05:1ms-80ms,foreign=0.05,split=0.05:1ms-40ms,flip=0.03,burst=0.03," +
		"silence=0.02,noise=0.03,cut=0.03,glue=0.03,wrong=0.03,exception=0.02,echo=0.02"
	n := 20000
	if testing.Short() {
		n = 3000
	}
	b := newBench(t, pumpsim.Options{Seed: 3}, faults, "magna3", "epump", "booster")
	good, bad := 0, 0
	for i := range n {
		address, start, count := 1+i%3, 300+i%7, 2+i%11
		values := make([]uint16, count)
		at, err := b.master.Read(context.Background(), modbus.Request{Address: byte(address), Start: uint16(start), Count: count, First: 300, Last: 357}, values)
		switch {
		case err != nil:
			bad++
		case !b.truthful(address, start, values, at):
			t.Fatalf("transaction %d: pump %d, registers from %d: %v is not what it served at %v or later", i, address, start, values, at)
		default:
			good++
		}
	}
	if good < n*8/10 || bad == 0 {
		t.Errorf("%d good and %d failed reads: the faults do not strike as they should", good, bad)
	}
}

func TestAPortInAnotherFormatIsNotUnderstood(t *testing.T) {
	for _, mode := range []fieldbus.Mode{
		{Baud: 19200, Parity: fieldbus.OddParity, StopBits: 1},
		{Baud: 19200, Parity: fieldbus.NoParity, StopBits: 2},
		{Baud: 9600, Parity: fieldbus.EvenParity, StopBits: 1},
	} {
		b := newBench(t, pumpsim.Options{}, "", "magna3")
		if err := b.line.SetMode(mode); err != nil {
			t.Fatal(err)
		}
		var v [2]uint16
		if _, err := b.master.Read(context.Background(), modbus.Request{Address: 1, Start: 300, Count: 2}, v[:]); !errors.Is(err, modbus.ErrNoAnswer) {
			t.Errorf("%v on a line of %v: %v; want no answer", mode, fieldbus.Default, err)
		}
		if st := b.sim.Stats(); st.Requests == 0 || st.Unheard != st.Requests || st.Served != 0 {
			t.Errorf("%v: %+v; the line heard frames and understood none", mode, st)
		}
	}
}

func TestAnUnpluggedPortInMemoryComesBack(t *testing.T) {
	b := newBench(t, pumpsim.Options{}, "unplug=@2:3s", "magna3")
	var v [2]uint16
	r := modbus.Request{Address: 1, Start: 300, Count: 2, First: 300, Last: 310}
	if _, err := b.master.Read(context.Background(), r, v[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.master.Read(context.Background(), r, v[:]); !errors.Is(err, fieldbus.ErrVanished) {
		t.Fatalf("reading while the adapter is pulled out: %v; want %v", err, fieldbus.ErrVanished)
	}
	if err := b.line.Open(); !errors.Is(err, fieldbus.ErrMissing) {
		t.Fatalf("opening at once: %v; want %v", err, fieldbus.ErrMissing)
	}
	b.clk.Advance(3 * time.Second)
	if err := b.line.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.master.Read(context.Background(), r, v[:]); err != nil {
		t.Errorf("after the adapter was plugged in again: %v", err)
	}
}

func TestALineInMemoryIsOpenedOnce(t *testing.T) {
	b := newBench(t, pumpsim.Options{}, "", "magna3")
	if _, err := b.sim.Open("again", fieldbus.Default); !errors.Is(err, fieldbus.ErrBusy) {
		t.Errorf("second opening: %v; want %v", err, fieldbus.ErrBusy)
	}
	if err := b.line.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.line.Open(); err != nil {
		t.Errorf("opening after closing: %v", err)
	}
}

// One transaction of 20 registers on a line in memory with every fault that a
// master has to live with, the pump's physics and the judge included.
func BenchmarkTransactionInMemory(bm *testing.B) {
	b := newBench(bm, pumpsim.Options{Seed: 1}, "late=0.02:20ms-500ms,repeat=0.02,foreign=0.02,split=0.02,flip=0.02,burst=0.02", "magna3")
	values := make([]uint16, 20)
	for bm.Loop() {
		// Failures are part of the day.
		_, _ = b.master.Read(context.Background(), modbus.Request{Address: 1, Start: 300, Count: 20, First: 300, Last: 357}, values)
	}
}
