package modbus_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"penstock/fieldbus/lateness"
	"penstock/fieldbus/modbus"
)

// tight lets the slave serve registers first to last only; none lets it refuse
// every read.
func (s *slave) tight(first, last int, none *bool) {
	s.play = func(_ int, q []byte, done time.Time) {
		start, count := int(binary.BigEndian.Uint16(q[2:])), int(binary.BigEndian.Uint16(q[4:]))
		if *none || start < first || start+count-1 > last {
			s.send(done.Add(s.turnaround), seal(q[0], q[1]|0x80, modbus.IllegalAddress))
			return
		}
		s.answer(q, done, s.turnaround)
	}
}

// planned is a read of registers 200 to 203 in a block that goes on to 220.
func planned() modbus.Request {
	r := modbus.Request{Address: 7, Functions: modbus.Holding, Start: 200, Count: 4, First: 200, Last: 220}
	r.Variants = modbus.Assign(map[lateness.Shape]bool{}, []modbus.Request{r}, 8)[0]
	return r
}

func TestARefusedWidthIsNoRefusedRead(t *testing.T) {
	s, m := newSlave(t)
	var none bool
	s.tight(200, 203, &none)
	for i := range 60 {
		before := len(s.requests)
		if err := read(t, s, m, planned()); err != nil {
			t.Fatalf("read %d of registers that the device has: %v", i, err)
		}
		if n := len(s.requests) - before; i >= 40 && n > 2 {
			t.Errorf("read %d took %d requests, though the device has refused the wider ones often", i, n)
		}
		s.clk.Advance(10 * time.Second)
	}
	wide := 0
	for _, q := range s.requests[len(s.requests)-10:] {
		if binary.BigEndian.Uint16(q[4:]) > 4 {
			wide++
		}
	}
	if wide > 0 {
		t.Errorf("%d of the last 10 requests are wider than what the device has", wide)
	}
}

func TestAWholeRefusalLeavesNoWidthOut(t *testing.T) {
	s, m := newSlave(t)
	none := true
	s.tight(200, 220, &none)
	var refusal *modbus.Exception
	for range 20 {
		before := len(s.requests)
		if err := read(t, s, m, planned()); !errors.As(err, &refusal) || refusal.Code != modbus.IllegalAddress {
			t.Fatalf("a device that refuses every read: %v; want exception 02", err)
		}
		if n := len(s.requests) - before; n > 3 {
			t.Errorf("a refused read took %d requests", n)
		}
		s.clk.Advance(time.Second)
	}
	none = false
	counts := map[uint16]bool{}
	for range 6 {
		if err := read(t, s, m, planned()); err != nil {
			t.Fatal(err)
		}
		counts[binary.BigEndian.Uint16(s.requests[len(s.requests)-1][4:])] = true
	}
	if len(counts) < 2 {
		t.Error("a device that restarted is read in one width only")
	}
}

func TestAPairThatNoWidthTellsApartWaits(t *testing.T) {
	s, m := newSlave(t)
	var none bool
	s.tight(200, 203, &none)
	r := modbus.Request{Address: 7, Functions: modbus.Holding, Start: 200, Count: 2, First: 200, Last: 220}
	other := modbus.Request{Address: 7, Functions: modbus.Holding, Start: 202, Count: 2, First: 200, Last: 220}
	ways := modbus.Assign(map[lateness.Shape]bool{}, []modbus.Request{r, other}, 2)
	r.Variants, other.Variants = ways[0], ways[1]
	m.Reserve(7, append(append([]modbus.Variant(nil), ways[0]...), ways[1]...))
	for i := range 60 {
		for _, q := range []modbus.Request{r, other} {
			if err := read(t, s, m, q); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	}
}
