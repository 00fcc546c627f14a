package pumpsim

import (
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
)

func TestThePortInMemoryKeepsThePromisesOfAPort(t *testing.T) {
	linetest.TestPort(t, func(t *testing.T) linetest.FarEnd {
		clk := linetest.NewClock()
		s, err := New(Options{Clock: clk})
		if err != nil {
			t.Fatal(err)
		}
		port, err := s.Open("in memory", fieldbus.Default)
		if err != nil {
			t.Fatal(err)
		}
		var sent []byte
		return linetest.FarEnd{
			Clock: clk,
			Port:  port,
			Send: func(b []byte) {
				s.bus.put(&transmission{start: clk.Now(), parts: []part{{bytes: b}}})
			},
			Received: func(n int) []byte {
				sent = append(sent, s.bus.heard...)
				return sent[:min(n, len(sent))]
			},
			Settle: func(b []byte) { clk.Advance(fieldbus.Default.Wire(len(b)) + time.Millisecond) },
			Vanish: func() {
				s.bus.unplug = time.Hour
				s.happen(clk.Now())
			},
		}
	})
}
