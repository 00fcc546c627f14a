package modbus_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/internal/clock"
)

// ptySlave answers on a real pseudo-terminal, at once: register r holds r. The
// first hold answers to device 2 come late by hold's time.
func ptySlave(t *testing.T, late time.Duration, times int) (*fieldbus.Line, func() error) {
	t.Helper()
	far, near, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	line := fieldbus.NewLine(near.Name(), fieldbus.Mode{Baud: 115200, Parity: fieldbus.EvenParity, StopBits: 1}, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() { serve(far, late, times) })
	t.Cleanup(func() {
		line.Close()
		near.Close() // with the last of the near ends gone, serve's read ends
		wait.Wait()
		far.Close()
	})
	return line, far.Close
}

func serve(far *os.File, late time.Duration, times int) {
	b := make([]byte, 256)
	for n := 0; ; {
		k, err := far.Read(b[n:])
		if err != nil {
			return
		}
		for n += k; n >= 8; n = copy(b, b[8:n]) {
			q := b[:8]
			reply := []byte{q[0], q[1], 2 * q[5]}
			for i := range q[5] {
				reply = append(reply, q[2], q[3]+i)
			}
			if q[0] == 2 && times > 0 {
				times--
				<-time.After(late) // this lateness is what is tested, on a real terminal
			}
			if _, err := far.Write(seal(reply...)); err != nil {
				return
			}
		}
	}
}

func TestMasterReadsOnARealTerminal(t *testing.T) {
	line, _ := ptySlave(t, 0, 0)
	m := modbus.NewMaster(line)
	var dst [20]uint16
	for i := range 50 {
		start := uint16(i % 7)
		if _, err := m.Read(ctx, modbus.Request{Address: 1, Start: start, Count: 20, Attempts: 5}, dst[:]); err != nil {
			t.Fatal(err)
		}
		for j, v := range dst {
			if v != start+uint16(j) {
				t.Fatalf("register %d reads %d", start+uint16(j), v)
			}
		}
	}
}

func TestLateReplyOnARealTerminal(t *testing.T) {
	line, _ := ptySlave(t, 150*time.Millisecond, 1)
	m := modbus.NewMaster(line)
	m.SetTiming(2, modbus.Timing{ReplyMax: 60 * time.Millisecond, Quiet: 200 * time.Millisecond})
	var dst [4]uint16
	for i := range 12 {
		start := uint16(10 * i)
		_, err := m.Read(ctx, modbus.Request{Address: 2, Start: start, Count: 4, First: 0, Last: 200, Attempts: 2}, dst[:])
		if err == nil && dst[0] != start {
			t.Fatalf("read %d: register %d reads %d", i, start, dst[0])
		}
	}
	if line.Counters().Timeouts.Load() == 0 {
		t.Error("nothing was late: the test shows nothing")
	}
}

func TestVanishedTerminalIsReported(t *testing.T) {
	line, vanish := ptySlave(t, 0, 0)
	if err := vanish(); err != nil {
		t.Fatal(err)
	}
	m := modbus.NewMaster(line)
	if _, err := m.Read(ctx, modbus.Request{Address: 1, Start: 1, Count: 1}, make([]uint16, 1)); err == nil {
		t.Fatal("a read from a terminal that is gone succeeded")
	}
	if line.IsOpen() {
		t.Error("the line believes that its port is open")
	}
}
