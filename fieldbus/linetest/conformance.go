package linetest

import (
	"bytes"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/internal/clock"
)

// FarEnd is the other end of a port under test.
type FarEnd struct {
	Clock    clock.Clock
	Send     func(b []byte)     // makes bytes arrive at the port, now
	Received func(n int) []byte // waits for n bytes that the port sent
	Vanish   func()             // takes the device away
	Settle   func(sent []byte)  // waits until what was sent has arrived
	Port     fieldbus.Port      // the port under test
}

// TestPort holds a port to the obligations that fieldbus.Port states. open
// returns a fresh one.
func TestPort(t *testing.T, open func(t *testing.T) FarEnd) {
	const patient = 2 * time.Second
	t.Run("ReadTimeoutIsZeroAndNoError", func(t *testing.T) {
		f := open(t)
		must(t, f.Port.SetReadTimeout(20*time.Millisecond))
		began := f.Clock.Now()
		n, err := f.Port.Read(new([8]byte)[:])
		if n != 0 || err != nil {
			t.Fatalf("Read of a silent port = %d, %v; want 0, nil", n, err)
		}
		if took := f.Clock.Now().Sub(began); took < 20*time.Millisecond {
			t.Errorf("the time-out came after %v, before its 20ms", took)
		}
	})
	t.Run("ZeroTimeoutReturnsWhatIsThere", func(t *testing.T) {
		f := open(t)
		sent := []byte{1, 2, 3}
		f.Send(sent)
		f.Settle(sent)
		must(t, f.Port.SetReadTimeout(0))
		var b [8]byte
		n, err := f.Port.Read(b[:])
		if err != nil || !bytes.Equal(b[:n], sent) {
			t.Fatalf("Read = % x, %v; want % x", b[:n], err, sent)
		}
		if n, err = f.Port.Read(b[:]); n != 0 || err != nil {
			t.Fatalf("second Read = %d, %v; want 0, nil", n, err)
		}
	})
	t.Run("EveryByteValuePassesUnchanged", func(t *testing.T) {
		f := open(t)
		var all [256]byte
		for i := range all {
			all[i] = byte(i)
		}
		n, err := f.Port.Write(all[:])
		if n != len(all) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		if got := f.Received(len(all)); !bytes.Equal(got, all[:]) {
			t.Errorf("the far end received % x", got)
		}
		f.Send(all[:])
		must(t, f.Port.SetReadTimeout(patient))
		if got := readFull(t, f.Port, len(all)); !bytes.Equal(got, all[:]) {
			t.Errorf("the port received % x", got)
		}
	})
	t.Run("ReadTakesNoMoreThanAsked", func(t *testing.T) {
		f := open(t)
		f.Send([]byte{1, 2, 3, 4, 5})
		f.Settle([]byte{1, 2, 3, 4, 5})
		must(t, f.Port.SetReadTimeout(patient))
		var b [8]byte
		if n, err := f.Port.Read(b[:2]); n != 2 || err != nil {
			t.Fatalf("Read into two bytes = %d, %v", n, err)
		}
		if got := readFull(t, f.Port, 3); !bytes.Equal(got, []byte{3, 4, 5}) {
			t.Errorf("the rest is % x; want 03 04 05", got)
		}
	})
	t.Run("ResetInputBufferThrowsAwayWhatCame", func(t *testing.T) {
		f := open(t)
		f.Send([]byte{1, 2, 3})
		f.Settle([]byte{1, 2, 3})
		must(t, f.Port.ResetInputBuffer())
		must(t, f.Port.SetReadTimeout(20*time.Millisecond))
		if n, err := f.Port.Read(new([8]byte)[:]); n != 0 || err != nil {
			t.Fatalf("Read after ResetInputBuffer = %d, %v; want 0, nil", n, err)
		}
		f.Send([]byte{4})
		must(t, f.Port.SetReadTimeout(patient))
		if got := readFull(t, f.Port, 1); got[0] != 4 {
			t.Errorf("after the reset came % x; want 04", got)
		}
	})
	t.Run("VanishedDeviceIsAnError", func(t *testing.T) {
		f := open(t)
		f.Vanish()
		must(t, f.Port.SetReadTimeout(patient))
		if n, err := f.Port.Read(new([8]byte)[:]); n != 0 || err == nil {
			t.Fatalf("Read of a vanished port = %d, %v; want an error", n, err)
		}
		if _, err := f.Port.Write([]byte{1}); err == nil {
			t.Error("Write to a vanished port succeeded")
		}
	})
	t.Run("ClosedPortIsAnError", func(t *testing.T) {
		f := open(t)
		must(t, f.Port.Close())
		if n, err := f.Port.Read(new([8]byte)[:]); n != 0 || err == nil {
			t.Fatalf("Read of a closed port = %d, %v; want an error", n, err)
		}
		if _, err := f.Port.Write([]byte{1}); err == nil {
			t.Error("Write to a closed port succeeded")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFull(t *testing.T, p fieldbus.Port, n int) []byte {
	t.Helper()
	var got []byte
	for len(got) < n {
		b := make([]byte, n-len(got))
		k, err := p.Read(b)
		if err != nil || k == 0 {
			t.Fatalf("Read = %d, %v after % x", k, err, got)
		}
		got = append(got, b[:k]...)
	}
	return got
}
