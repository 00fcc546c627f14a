package rtu

import (
	"encoding/binary"
	"testing"
	"time"

	"penstock/fieldbus/pumpsim/physics"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func unit(kind Map) *Unit {
	m, pumps := physics.Multistage(), 1
	if kind == Booster {
		pumps = 3
	}
	return New(7, kind, Identity{Family: 2, Type: 7, Version: 2}, physics.New(m, pumps, 1), epoch)
}

// ask makes a request of 16-bit numbers.
func ask(t *testing.T, u *Unit, at time.Duration, function byte, numbers ...uint16) Answer {
	t.Helper()
	b := []byte{7, function}
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	a, ok := u.Answer(Seal(b), epoch.Add(at))
	if !ok {
		t.Fatalf("% x is not answered", b)
	}
	return a
}

func TestTheChecksumIsTheOneOfTheSpecification(t *testing.T) {
	// MODBUS over Serial Line V1.02, figure on CRC generation: 02 07 gives 41 12.
	if got := Seal([]byte{2, 7}); got[2] != 0x41 || got[3] != 0x12 {
		t.Errorf("% x; want 02 07 41 12", got)
	}
}

func TestAReadThatTouchesAGapIsRefused(t *testing.T) {
	u := unit(Pump)
	for _, c := range []struct {
		start, count uint16
		want         Exception
	}{
		{200, 25, 0}, {224, 1, 0}, {200, 1, 0},
		{200, 26, IllegalAddress}, {224, 2, IllegalAddress}, {199, 2, IllegalAddress}, {225, 1, IllegalAddress},
		{300, 58, 0}, {300, 59, IllegalAddress}, {10, 1, IllegalAddress}, {0, 10, 0},
		{200, 0, IllegalValue}, {200, 126, IllegalValue}, {65535, 2, IllegalAddress},
	} {
		for _, function := range []byte{3, 4} {
			if a := ask(t, u, 0, function, c.start, c.count); a.Exception != c.want {
				t.Errorf("function %d, %d registers from %d: exception %d; want %d", function, c.count, c.start, a.Exception, c.want)
			}
		}
	}
}

func TestWhatAPumpDoesNotMeasureIsNotAvailable(t *testing.T) {
	// Register 320 is a circulator's liquid; 316 a booster's outlet.
	if v := ask(t, unit(Pump), time.Second, 3, 319, 1).Values[0]; v != 0xFFFF {
		t.Errorf("register 320 of an E-pump is %d", v)
	}
	if v := ask(t, unit(Magna), time.Second, 3, 319, 1).Values[0]; v == 0xFFFF || v < 27315 {
		t.Errorf("register 320 of a MAGNA3 is %d; want a temperature in 0.01 K", v)
	}
}

func TestTheHalvesOfA32BitValueAreOfOneMoment(t *testing.T) {
	u := unit(Pump)
	for at := time.Second; at < 10*time.Minute; at += 997 * time.Millisecond {
		v := ask(t, u, at, 3, 311, 2).Values
		if got, want := float64(uint32(v[0])<<16|uint32(v[1])), float64(u.Plant().State().Power); got < want-1 || got > want+1 {
			t.Fatalf("after %v: power %v in registers 312 and 313; the pump takes %v W", at, got, want)
		}
	}
}

func TestASetPointIsReadBackAndMovesThePump(t *testing.T) {
	u := unit(Pump)
	ask(t, u, 0, 6, 101, uint16(physics.ConstantFrequency))
	ask(t, u, 0, 6, 103, 6000)
	slow := ask(t, u, time.Minute, 3, 303, 1).Values[0]
	ask(t, u, time.Minute, 6, 103, 9500)
	fast := ask(t, u, 2*time.Minute, 3, 303, 1).Values[0]
	if set := ask(t, u, 2*time.Minute, 3, 337, 1).Values[0]; set != 9500 {
		t.Errorf("register 338, the set-point, is %d; want 9500", set)
	}
	if fast < slow*14/10 {
		t.Errorf("from 60 to 95 %% the speed went from %d to %d", slow, fast)
	}
	if a := ask(t, u, 2*time.Minute, 6, 103, 10001); a.Exception != IllegalValue {
		t.Errorf("a set-point above 100 %%: exception %d", a.Exception)
	}
}

func TestTheBoosterHasABlockForEachPump(t *testing.T) {
	u := unit(Booster)
	for i := range uint16(3) {
		if a := ask(t, u, time.Minute, 3, 400+10*i, 9); a.Exception != 0 {
			t.Errorf("pump %d: exception %d", i+1, a.Exception)
		}
	}
	if a := ask(t, u, time.Minute, 3, 430, 9); a.Exception != IllegalAddress {
		t.Errorf("a fourth pump of three: exception %d", a.Exception)
	}
	if present := ask(t, u, time.Minute, 3, 207, 1).Values[0]; present != 7 {
		t.Errorf("pumps present %b; want 111", present)
	}
}

func TestTheSolarDriveHasAMapOfItsOwn(t *testing.T) {
	u := unit(Solar)
	if a := ask(t, u, 0, 6, 1, 4000); a.Exception != 0 {
		t.Fatalf("setting 40 Hz: exception %d", a.Exception)
	}
	v := ask(t, u, time.Minute, 3, 1, 9).Values
	if v[0] < 3900 || v[0] > 4000 || v[1] < 2000 {
		t.Errorf("frequency %d in 0.01 Hz, speed %d; want about 40 Hz", v[0], v[1])
	}
	if a := ask(t, u, time.Minute, 3, 200, 1); a.Exception != IllegalAddress {
		t.Errorf("a register of the other map: exception %d", a.Exception)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{3, 0, 200, 0, 25})
	f.Add([]byte{16, 0, 100, 0, 2, 4, 0, 3, 0, 0})
	f.Add([]byte{8, 0, 4, 0, 0})
	f.Fuzz(func(t *testing.T, pdu []byte) {
		if len(pdu) == 0 || len(pdu) > 253 {
			return
		}
		for _, kind := range []Map{Pump, Booster, Solar} {
			u := unit(kind)
			a, ok := u.Answer(Seal(append([]byte{7}, pdu...)), epoch.Add(time.Second))
			if ok && a.Frame != nil && !Sound(a.Frame) {
				t.Errorf("%s answers % x with % x", kind, pdu, a.Frame)
			}
		}
	})
}
