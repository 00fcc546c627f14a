package modbus_test

import (
	"errors"
	"testing"
	"time"

	"penstock/fieldbus/modbus"
)

func TestDiagnosticEchoReturnsItsData(t *testing.T) {
	s, m := newSlave(t)
	for _, data := range []uint16{0xA537, 0, 0xFFFF} {
		got, err := m.Diagnostic(ctx, 5, 0, data)
		if err != nil || got != data {
			t.Errorf("echo of %#04x: %#04x, %v", data, got, err)
		}
	}
	if want := seal(5, 8, 0, 0, 0xA5, 0x37); string(s.requests[0]) != string(want) {
		t.Errorf("sent % x; want % x", s.requests[0], want)
	}
}

func TestDiagnosticReturnsWhatTheDeviceCounts(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(_ int, q []byte, done time.Time) {
		s.send(done.Add(s.turnaround), seal(q[0], 8, q[2], q[3], 0x01, 0x02))
	}
	if got, err := m.Diagnostic(ctx, 5, 2, 0); err != nil || got != 0x0102 {
		t.Errorf("diagnostic register: %#04x, %v; want 0x0102", got, err)
	}
	s.play = func(_ int, q []byte, done time.Time) { s.send(done.Add(s.turnaround), seal(q[0], 0x88, 1)) }
	var e *modbus.Exception
	if _, err := m.Diagnostic(ctx, 5, 2, 0); !errors.As(err, &e) || e.Function != 8 || e.Code != modbus.IllegalFunction {
		t.Errorf("a refused diagnostic: %v", err)
	}
}

func TestBroadcastIsSentOnceAndTheLineLeftAlone(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if q[0] != 0 {
			s.answer(q, done, s.turnaround)
		}
	}
	if err := m.Broadcast(ctx, 103, 4); err != nil {
		t.Fatal(err)
	}
	if err := m.Broadcast(ctx, 100, 3, 4); err != nil {
		t.Fatal(err)
	}
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 2}); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{seal(0, 6, 0, 103, 0, 4), seal(0, 16, 0, 100, 0, 2, 4, 0, 3, 0, 4)} {
		if string(s.requests[i]) != string(want) {
			t.Errorf("broadcast %d is % x; want % x", i, s.requests[i], want)
		}
		if gap := s.times[i+1].Sub(s.times[i]); gap < modbus.Turnaround || gap > modbus.Turnaround+20*time.Millisecond {
			t.Errorf("the line was used again %v after broadcast %d", gap, i)
		}
	}
	if len(s.requests) != 3 {
		t.Errorf("%d frames were sent; want 3", len(s.requests))
	}
}

// The functions that pumps of other makes need go through goburrow's client, and
// are as safe there: the same request again waits out the quiet window.
func TestGoburrowsClientWorksOnOurTransporter(t *testing.T) {
	s, m := newSlave(t)
	c := m.Client(7)
	for name, call := range map[string]func() ([]byte, error){
		"01": func() ([]byte, error) { return c.ReadCoils(3, 11) },
		"02": func() ([]byte, error) { return c.ReadDiscreteInputs(3, 11) },
		"05": func() ([]byte, error) { return c.WriteSingleCoil(3, 0xFF00) },
		"15": func() ([]byte, error) { return c.WriteMultipleCoils(3, 11, []byte{1, 2}) },
		"23": func() ([]byte, error) { return c.ReadWriteMultipleRegisters(3, 4, 9, 1, []byte{1, 2}) },
	} {
		if _, err := call(); err != nil {
			t.Errorf("function %s: %v", name, err)
		}
	}
	before := len(s.times)
	for range 2 {
		if _, err := c.ReadCoils(3, 40); err != nil {
			t.Error(err)
		}
	}
	if gap := s.times[before+1].Sub(s.times[before]); gap < time.Second {
		t.Errorf("the same request went out again after %v", gap)
	}
}
