package bench

import (
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/internal/telemetry"
)

func TestPlantReadsFortyPointsAndTheSetPointBack(t *testing.T) {
	p, err := plantProfile()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Items) != plantPoints {
		t.Errorf("%d points; want %d", len(p.Items), plantPoints)
	}
	if _, ok := p.Command("setpoint"); !ok {
		t.Error("the family has no command setpoint")
	}
}

// 16 characters of the write, 15 of reading one register back, at 19200 8E1.
func TestCommandBoundIsTheDeadPumpsTimeoutAndItsOwnTransactions(t *testing.T) {
	want := 250*time.Millisecond + time.Duration(31*11)*time.Second/19200 + 50*time.Millisecond
	if got := commandBound(fieldbus.Default, 125); got-want > time.Microsecond || want-got > time.Microsecond {
		t.Errorf("%v; want %v", got, want)
	}
	slow := fieldbus.Mode{Baud: 4800, Parity: fieldbus.EvenParity, StopBits: 1}
	if commandBound(slow, 125) < slow.Wire(8+255)+50*time.Millisecond {
		t.Error("at 4800 baud the longest frame takes longer than the time-out, and the bound is shorter than it")
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 300 {
		d = append(d, time.Duration(i+1))
	}
	for share, want := range map[float64]time.Duration{0.5: 150, 0.99: 297, 1: 300, 0: 1} {
		if got := percentile(d, share); got != want {
			t.Errorf("percentile %v of 1 to 300 is %d; want %d", share, got, want)
		}
	}
}

func TestTallyCountsWhatIsMissingAndWhatNobodySpokeOf(t *testing.T) {
	at := func(s int) time.Time { return linetest.Epoch.Add(time.Duration(s) * time.Second) }
	groups := []telemetry.Group{
		{Period: time.Second, Series: make([]telemetry.Series, 2)},
		{Period: 5 * time.Second, Series: make([]telemetry.Series, 1)},
		{Period: 5 * time.Second, Series: make([]telemetry.Series, 3)},
	}
	var c tally
	c.take(telemetry.Reading{Slot: at(1)}) // before it counts
	c.begin(at(10), at(20))
	c.take(telemetry.Reading{Slot: at(9)})
	c.take(telemetry.Reading{Slot: at(20)})
	for s := 10; s < 20; s++ {
		if s == 14 {
			continue // nobody says anything about this slot
		}
		q := telemetry.Good
		if s == 16 {
			q = telemetry.Missing
		}
		for series := range 2 {
			c.take(telemetry.Reading{Group: 0, Series: series, Slot: at(s), Off: time.Duration(s) * time.Millisecond, Quality: q})
		}
	}
	c.take(telemetry.Reading{Group: 1, Slot: at(10), Off: 40 * time.Millisecond})
	c.take(telemetry.Reading{Group: 1, Slot: at(15), Off: time.Hour, Quality: telemetry.Missing})
	good, due, late := c.result(groups)
	if good != 17 || due != 20+2+6 || late != 40*time.Millisecond {
		t.Errorf("%d of %d, at most %v late; want 17 of 28, 40ms", good, due, late)
	}
}

// scripted is a port whose reads end as they are told.
type scripted struct {
	fieldbus.Port
	reads []int
}

func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }

func (s *scripted) Read([]byte) (int, error) {
	n := s.reads[0]
	s.reads = s.reads[1:]
	return n, nil
}

func TestOnlyWaitingForTheDeadIsHeldAgainstThem(t *testing.T) {
	w := &watchedPort{Port: &scripted{reads: []int{0, 3, 0, 0}}, dead: map[byte]bool{8: true}}
	use := func(address byte) {
		if _, err := w.Write([]byte{address}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Read(nil); err != nil {
			t.Fatal(err)
		}
	}
	use(1)
	if w.spent.Load() != 0 {
		t.Error("a time-out of one that lives was counted")
	}
	use(8) // it gives a sign of life
	if w.spent.Load() != 0 {
		t.Error("bytes were counted as a wait")
	}
	use(1)
	if w.spent.Load() != 0 {
		t.Error("the wait of the request before was counted")
	}
	use(8)
	if w.spent.Load() <= 0 {
		t.Error("the wait for a dead device was not counted")
	}
}
