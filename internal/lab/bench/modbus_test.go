package bench

import (
	"bytes"
	"errors"
	"math"
	"os/exec"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/internal/clock"
)

func line8E1(baud int) fieldbus.Mode {
	return fieldbus.Mode{Baud: baud, Parity: fieldbus.EvenParity, StopBits: 1}
}

// The figures are worked out by hand: (8 + 5 + 2N) characters of 11 bits, 3.5
// characters (1.75 ms above 19200 baud), and 5 ms.
func TestIdealIsWireTimeAndOneSilenceAndTheTurnaround(t *testing.T) {
	for _, c := range []struct {
		baud, registers int
		ms              float64
	}{
		{9600, 2, 19.479 + 4.010 + 5},
		{9600, 100, 244.063 + 4.010 + 5},
		{19200, 20, 30.365 + 2.005 + 5},
		{38400, 2, 4.870 + 1.75 + 5},
		{115200, 2, 1.623 + 1.75 + 5},
		{115200, 125, 25.113 + 1.75 + 5},
	} {
		got := ideal(line8E1(c.baud), c.registers).Seconds() * 1000
		if math.Abs(got-c.ms) > 0.002 {
			t.Errorf("%d baud, %d registers: %.3f ms; want %.3f", c.baud, c.registers, got, c.ms)
		}
	}
}

func TestEfficiencyIsTheIdealOverTheMedianPeriod(t *testing.T) {
	mode := line8E1(115200)
	p := int64(ideal(mode, 20))
	if got := efficiency(mode, 20, []int64{2 * p, 2 * p, 2 * p, p, 100 * p}); got != 0.5 {
		t.Errorf("three of five reads take twice the ideal: %v; want 0.5", got)
	}
	if got := efficiency(mode, 20, nil); got != 0 {
		t.Errorf("a master that read nothing has an efficiency of %v", got)
	}
}

func TestAPeerThatKeepsNoSilenceIsNotRaced(t *testing.T) {
	s := summary{efficiency: math.Inf(1), silence: math.Inf(1), lead: math.Inf(1)}
	s.add([]cell{
		{efficiency: 0.99, silence: 1.1},
		{peer: "hasty", efficiency: 1.2, silence: 0.03},
		{peer: "slow", efficiency: 0.5, silence: 9},
		{peer: "good", efficiency: 0.9, silence: 1.2},
	})
	s.add([]cell{{efficiency: 0.97, silence: 1.05}, {peer: "good", efficiency: 0.98, silence: 1}})
	if want := (summary{efficiency: 0.97, silence: 1.05, lead: 0.97 / 0.98}); s != want {
		t.Errorf("the worst of two cells is %+v; want %+v", s, want)
	}
}

func TestOnlyAPeerMayFail(t *testing.T) {
	var lines []Metric
	emit := func(m Metric) { lines = append(lines, m) }
	broken := errors.New("broken")
	if err := excuse(t.Context(), master{name: "peer"}, broken, emit); err != nil || len(lines) != 1 {
		t.Errorf("a failed peer is %v and %d lines; want none and one", err, len(lines))
	}
	if err := excuse(t.Context(), master{}, broken, emit); !errors.Is(err, broken) {
		t.Errorf("our own failure is %v", err)
	}
	left := present([]master{{name: "absent", problem: exec.ErrNotFound}, {name: "here"}, {name: "other"}}, emit, "other")
	if len(left) != 1 || left[0].name != "here" || len(lines) != 2 || lines[1].Keys["peer"] != "absent" {
		t.Errorf("left are %v, and the lines are %v", left, lines)
	}
}

// The wire is the measure of all masters: it must never hand an answer over
// before its last bit could have arrived.
func TestWireIsNeverEarly(t *testing.T) {
	mode := line8E1(19200)
	w, err := newWire(mode, turnaround)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	line := fieldbus.NewLine(w.near.Name(), mode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		t.Fatal(err)
	}
	go func() { done <- w.serve(stop) }()
	request := seal([]byte{1, 3, 0, 200, 0, 20})
	for range 3 {
		began := monotonic()
		if _, err := line.Write(request); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for deadline := clock.System.Now().Add(10 * time.Second); len(got) < 45; {
			var b [64]byte
			n, err := line.Read(b[:], deadline)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			got = append(got, b[:n]...)
		}
		if took, least := time.Duration(monotonic()-began), mode.Wire(8+45)+turnaround; took < least {
			t.Errorf("an answer was there after %v; the wire takes %v", took, least)
		}
		if want := replyOf(request, func(r uint16) uint16 { return r }); !bytes.Equal(got, want) {
			t.Errorf("the answer is % x; want % x", got, want)
		}
	}
	close(stop)
	if err := errors.Join(<-done, line.Close(), w.close()); err != nil {
		t.Error(err)
	}
	if len(w.starts) != 3 || len(w.periods()) != 2 || len(w.silences) != 2 {
		t.Errorf("three reads left %d starts, %d periods, %d silences", len(w.starts), len(w.periods()), len(w.silences))
	}
	for _, late := range w.late {
		if late < 0 {
			t.Errorf("a piece was %v early", -time.Duration(late))
		}
	}
}
