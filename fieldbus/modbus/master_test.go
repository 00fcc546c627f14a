package modbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
)

var ctx = context.Background()

func read(t *testing.T, s *slave, m *modbus.Master, r modbus.Request) error {
	t.Helper()
	dst := make([]uint16, r.Count)
	at, err := m.Read(ctx, r, dst)
	if err == nil && !s.right(r.Start, dst, at) {
		t.Errorf("%+v at %v returned %04x: another register's, or older than it says", r, at, dst)
	}
	return err
}

func TestReadReturnsTheRegisters(t *testing.T) {
	s, m := newSlave(t)
	for _, functions := range []modbus.Functions{modbus.Either, modbus.Holding, modbus.Input} {
		for _, count := range []int{1, 2, 20, 125} {
			r := modbus.Request{Address: 7, Functions: functions, Start: 200, Count: count, First: 100, Last: 400}
			if err := read(t, s, m, r); err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		}
	}
}

func TestRequestIsTheBytesOfTheSpecification(t *testing.T) {
	// The serial line guide gives the frame layout and the application protocol,
	// chapter 6.3, the data: read registers 108–110 of device 17.
	s, m := newSlave(t)
	if err := read(t, s, m, modbus.Request{Address: 0x11, Functions: modbus.Holding, Start: 0x6B, Count: 3}); err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x11, 0x03, 0x00, 0x6B, 0x00, 0x03, 0x76, 0x87}; !bytes.Equal(s.requests[0], want) {
		t.Errorf("sent % x; want % x", s.requests[0], want)
	}
}

func TestConsecutiveRequestsToADeviceNeverAskForTheSameAnswer(t *testing.T) {
	shape := func(q []byte) string { return fmt.Sprint(q[0], q[1], q[5]) }
	for _, r := range []modbus.Request{
		{Address: 3, Start: 200, Count: 10},
		{Address: 3, Functions: modbus.Holding, Start: 200, Count: 10, First: 200, Last: 230},
		{Address: 3, Functions: modbus.Input, Start: 200, Count: 10, First: 190, Last: 209},
		{Address: 3, Functions: modbus.Holding, Start: 200, Count: 10}, // the whole block
		{Address: 3, Functions: modbus.Holding, Start: 0, Count: 125, First: 0, Last: 400},
	} {
		s, m := newSlave(t)
		began := s.clk.Now()
		for range 20 {
			if err := read(t, s, m, r); err != nil {
				t.Fatal(err)
			}
		}
		if took := s.clk.Now().Sub(began); took > 5*time.Second {
			t.Errorf("%+v: 20 reads took %v: they waited where a wider read would do", r, took)
		}
		for i := range s.requests[1:] {
			if shape(s.requests[i]) == shape(s.requests[i+1]) {
				t.Errorf("%+v: requests %d and %d are alike: % x", r, i, i+1, s.requests[i])
			}
		}
	}
}

func TestOneRegisterThatCannotBeReadOtherwiseWaitsItsQuietWindow(t *testing.T) {
	s, m := newSlave(t)
	r := modbus.Request{Address: 3, Functions: modbus.Holding, Start: 200, Count: 1}
	for range 3 {
		if err := read(t, s, m, r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.times[1:] {
		if gap := s.times[i+1].Sub(s.times[i]); gap < time.Second {
			t.Errorf("the same request was made again after %v", gap)
		}
	}
}

func TestLateReplyIsNeverTakenForTheNextAnswer(t *testing.T) {
	// A device answers one request long after its time-out, while the master
	// reads on. Every time of arrival is tried.
	for late := 300 * time.Millisecond; late < 900*time.Millisecond; late += 3700 * time.Microsecond {
		s, m := newSlave(t)
		s.play = func(n int, q []byte, done time.Time) {
			wait := s.turnaround
			if n == 0 {
				wait = late
			}
			s.answer(q, done, wait)
		}
		for i := range 40 {
			_ = read(t, s, m, modbus.Request{Address: 1, Start: 200 + uint16(i%5), Count: 10, First: 200, Last: 230, Attempts: 3})
		}
		if t.Failed() {
			t.Fatalf("with an answer %v late", late)
		}
	}
}

func TestRepeatedReplyIsNeverTakenForTheNextAnswer(t *testing.T) {
	// Every answer comes twice. The second one comes at any time until the next
	// answer, which is 19 ms after the first.
	for gap := time.Duration(0); gap < 19*time.Millisecond; gap += 370 * time.Microsecond {
		s, m := newSlave(t)
		s.play = s.twice(gap)
		answered := 0
		for i := range 40 {
			if read(t, s, m, modbus.Request{Address: 1, Start: 200 + uint16(i%5), Count: 4, First: 200, Last: 230, Attempts: 3}) == nil {
				answered++
			}
		}
		if answered < 20 {
			t.Errorf("only %d of 40 reads were answered", answered)
		}
		if t.Failed() {
			t.Fatalf("with every answer repeated after %v", gap)
		}
	}
}

func TestDeviceCaughtRepeatingItselfIsBelievedNoMore(t *testing.T) {
	// The second copy comes while a later request than the next one is waiting.
	for gap := 19 * time.Millisecond; gap < 200*time.Millisecond; gap += 5300 * time.Microsecond {
		s, m := newSlave(t)
		s.play = s.twice(gap)
		dst := make([]uint16, 4)
		late := 0
		for i := range 400 {
			at, err := m.Read(ctx, modbus.Request{Address: 1, Start: 200 + uint16(i%5), Count: 4, First: 200, Last: 230, Attempts: 3}, dst)
			if err == nil && !s.right(200+uint16(i%5), dst, at) && i >= 40 {
				late++
			}
		}
		if late > 0 {
			t.Fatalf("gap %v: %d answers were believed after the device had been caught", gap, late)
		}
	}
}

func TestUnansweredRequestIsRepeatedUnchanged(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if n >= 2 {
			s.answer(q, done, s.turnaround)
		}
	}
	r := modbus.Request{Address: 9, Start: 200, Count: 10, First: 200, Last: 230}
	dst := make([]uint16, 10)
	for i := range 2 {
		if _, err := m.Read(ctx, r, dst); !errors.Is(err, modbus.ErrNoAnswer) {
			t.Fatalf("read %d: %v; want ErrNoAnswer", i, err)
		}
	}
	at, err := m.Read(ctx, r, dst)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.requests[1:] {
		if !bytes.Equal(s.requests[0], s.requests[i+1]) {
			t.Errorf("attempt %d is % x; the first was % x", i+2, s.requests[i+1], s.requests[0])
		}
	}
	if at.After(s.times[0]) {
		t.Errorf("the answer carries a time %v after the first attempt", at.Sub(s.times[0]))
	}
}

func TestAnAbandonedRequestHoldsBackItsOwnShapeOnly(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if n > 0 {
			s.answer(q, done, s.turnaround)
		}
	}
	holding := func(start uint16, count int) modbus.Request {
		return modbus.Request{Address: 9, Functions: modbus.Holding, Start: start, Count: count}
	}
	if err := read(t, s, m, holding(200, 10)); !errors.Is(err, modbus.ErrNoAnswer) {
		t.Fatal(err)
	}
	if until := m.ReadyAt(holding(300, 10)); until.Sub(s.times[0]) < time.Second {
		t.Errorf("a request of the same shape may be made after %v", until.Sub(s.times[0]))
	}
	before := s.clk.Now()
	if err := read(t, s, m, holding(300, 5)); err != nil {
		t.Fatal(err)
	}
	if gap := s.times[1].Sub(before); gap > 3*time.Millisecond {
		t.Errorf("a request of another shape had to wait %v", gap)
	}
	if err := read(t, s, m, holding(300, 10)); err != nil {
		t.Fatal(err)
	}
	if gap := s.times[len(s.times)-1].Sub(s.times[0]); gap < time.Second {
		t.Errorf("a request of the same shape was made %v after the one that was given up", gap)
	}
}

// The answer to the first request comes again while the third is out: no rule
// about consecutive requests helps then.
func TestAnAnswerRepeatedOneTransactionLaterIsNotTaken(t *testing.T) {
	for gap := 10 * time.Millisecond; gap < 240*time.Millisecond; gap += 1700 * time.Microsecond {
		s, m := newSlave(t)
		s.play = func(n int, q []byte, done time.Time) {
			end := s.send(done.Add(s.turnaround), s.reply(q, done))
			if n%3 == 0 {
				s.send(end.Add(gap), s.reply(q, done))
			}
		}
		for i := range 60 {
			_ = read(t, s, m, modbus.Request{Address: 1, Functions: modbus.Holding, Start: 200 + uint16(i%3), Count: 1, First: 200, Last: 240, Attempts: 2})
		}
		if t.Failed() {
			t.Fatalf("with an answer repeated after %v", gap)
		}
	}
}

func TestQuietWindowBindsTheLateAddressOnly(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if q[0] != 9 {
			s.answer(q, done, s.turnaround)
		}
	}
	if err := read(t, s, m, modbus.Request{Address: 9, Start: 200, Count: 10}); !errors.Is(err, modbus.ErrNoAnswer) {
		t.Fatal(err)
	}
	before := s.clk.Now()
	if err := read(t, s, m, modbus.Request{Address: 10, Start: 200, Count: 10}); err != nil {
		t.Fatal(err)
	}
	if gap := s.times[1].Sub(before); gap > 3*time.Millisecond {
		t.Errorf("another device had to wait %v", gap)
	}
}

func TestLateReplyDuringAnothersTransactionIsPutAside(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if q[0] == 9 {
			s.send(done.Add(256*time.Millisecond), s.reply(q, done))
			return
		}
		s.answer(q, done, 40*time.Millisecond)
	}
	_ = read(t, s, m, modbus.Request{Address: 9, Start: 200, Count: 2})
	if err := read(t, s, m, modbus.Request{Address: 10, Start: 200, Count: 2}); err != nil {
		t.Fatal(err)
	}
	if got := s.line.Counters().Stale.Load(); got != 1 {
		t.Errorf("counted %d stale answers; want 1", got)
	}
}

func TestOpenAttemptsAreNotForgottenWhenOneIsAnswered(t *testing.T) {
	// Two attempts, one answer: the other answer comes while a later request of
	// what would be the same shape is waiting.
	for extra := time.Duration(0); extra < 400*time.Millisecond; extra += 3100 * time.Microsecond {
		s, m := newSlave(t)
		s.play = func(n int, q []byte, done time.Time) {
			switch n {
			case 0:
				s.send(done.Add(260*time.Millisecond+extra), s.reply(q, done))
			default:
				s.answer(q, done, s.turnaround)
			}
		}
		for range 20 {
			_ = read(t, s, m, modbus.Request{Address: 1, Start: 200, Count: 4, First: 200, Last: 230, Attempts: 2})
		}
		if t.Failed() {
			t.Fatalf("with %v", extra)
		}
	}
}

func TestDeviceThatIsFastAgainShortensNoQuietWindow(t *testing.T) {
	// A slow answer, then one that is late by ten times as much while the
	// device answers everything else at once, so that it counts as fast again.
	for late := 1000 * time.Millisecond; late < 2400*time.Millisecond; late += 7300 * time.Microsecond {
		s, m := newSlave(t)
		s.play = func(n int, q []byte, done time.Time) {
			wait := s.turnaround
			switch n {
			case 0:
				wait = 240 * time.Millisecond
			case 1:
				wait = late
			}
			s.answer(q, done, wait)
		}
		for i := range 110 {
			_ = read(t, s, m, modbus.Request{Address: 1, Start: 200 + uint16(i%5), Count: 1, First: 200, Last: 230, Attempts: 3})
		}
		if t.Failed() {
			t.Fatalf("with an answer %v late", late)
		}
	}
}

func TestSilenceBeforeEveryFrame(t *testing.T) {
	for _, baud := range []int{9600, 19200, 38400, 115200} {
		s, m := newSlave(t)
		mode := fieldbus.Mode{Baud: baud, Parity: fieldbus.EvenParity, StopBits: 1}
		if err := s.line.SetMode(mode); err != nil {
			t.Fatal(err)
		}
		var ends []time.Time
		s.play = func(n int, q []byte, done time.Time) {
			ends = append(ends, s.send(done.Add(s.turnaround), s.reply(q, done)))
		}
		for i := range 10 {
			if err := read(t, s, m, modbus.Request{Address: byte(1 + i%2), Start: 200, Count: 4}); err != nil {
				t.Fatal(err)
			}
		}
		want := modbus.Silence(mode)
		for i := range ends[:9] {
			if gap := s.times[i+1].Sub(ends[i]); gap < want || gap > want+10*time.Microsecond {
				t.Errorf("%d baud: %v of silence before request %d; want %v", baud, gap, i+1, want)
			}
		}
	}
}

func TestSilenceIsThreeAndAHalfCharactersOr1750Microseconds(t *testing.T) {
	for baud, want := range map[int]time.Duration{
		9600: 4010416 * time.Nanosecond, 19200: 2005208 * time.Nanosecond,
		38400: 1750 * time.Microsecond, 115200: 1750 * time.Microsecond,
	} {
		if got := modbus.Silence(fieldbus.Mode{Baud: baud}); got != want {
			t.Errorf("%d baud: %v; want %v", baud, got, want)
		}
	}
}

func TestExceptionInPiecesIsAnException(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		b := seal(q[0], q[1]|0x80, 2)
		at := done.Add(s.turnaround)
		for i := range b {
			at = at.Add(3 * time.Millisecond)
			s.port.Deliver(at, b[i])
		}
	}
	err := read(t, s, m, modbus.Request{Address: 5, Functions: modbus.Holding, Start: 900, Count: 1})
	var e *modbus.Exception
	if !errors.As(err, &e) || e.Code != modbus.IllegalAddress || e.Function != 3 || e.Address != 5 {
		t.Fatalf("read of a register that is not there: %v", err)
	}
	if n := s.line.Counters().Exceptions.Load(); n != 1 {
		t.Errorf("counted %d exceptions", n)
	}
}

func TestForeignFramesAreDiscardedWhileTheClockRuns(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		end := s.send(done.Add(2*time.Millisecond), seal(33, 3, 2, 0xAA, 0xBB))
		s.answer(q, end, 3*time.Millisecond)
	}
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); err != nil {
		t.Fatal(err)
	}
	if n := s.line.Counters().Foreign.Load(); n != 1 {
		t.Errorf("counted %d foreign frames", n)
	}

	s.play = func(n int, q []byte, done time.Time) {
		for at := done; at.Before(done.Add(time.Second)); {
			at = s.send(at.Add(10*time.Millisecond), seal(33, 3, 2, 0xAA, 0xBB))
		}
	}
	began := s.clk.Now()
	if err := read(t, s, m, modbus.Request{Address: 6, Start: 200, Count: 3}); !errors.Is(err, modbus.ErrNoAnswer) {
		t.Fatalf("nothing but foreign frames: %v; want ErrNoAnswer", err)
	}
	if took := s.clk.Now().Sub(began); took > 400*time.Millisecond {
		t.Errorf("foreign frames stretched the time-out to %v", took)
	}
}

func TestDamagedAnswerIsAnErrorAndTheNextReadIsSound(t *testing.T) {
	for bit := range 8 * 11 {
		s, m := newSlave(t)
		s.play = func(n int, q []byte, done time.Time) {
			b := s.reply(q, done)
			if n == 0 {
				b[bit/8] ^= 1 << (bit % 8)
			}
			s.send(done.Add(s.turnaround), b)
		}
		r := modbus.Request{Address: 5, Start: 200, Count: 3}
		if err := read(t, s, m, r); err == nil {
			t.Fatalf("bit %d was flipped and the answer taken", bit)
		}
		if err := read(t, s, m, r); err != nil {
			t.Errorf("bit %d: the read after: %v", bit, err)
		}
		if err := read(t, s, m, r); err != nil {
			t.Errorf("bit %d: the second read after: %v", bit, err)
		}
	}
}

func TestAnswerCutShortIsToldApart(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		s.send(done.Add(s.turnaround), s.reply(q, done)[:6])
	}
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); !errors.Is(err, modbus.ErrDamaged) {
		t.Fatalf("half an answer: %v; want ErrDamaged", err)
	}
	c := s.line.Counters()
	if c.Cut.Load() != 1 || c.Corrupt.Load() != 0 || c.Timeouts.Load() != 0 {
		t.Errorf("cut %d, corrupt %d, timeouts %d; want 1, 0, 0", c.Cut.Load(), c.Corrupt.Load(), c.Timeouts.Load())
	}
}

func TestNoiseBeforeTheAnswerIsPutAside(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		s.port.Deliver(done, 0x00, 0xFF, q[0], q[1])
		s.answer(q, done, s.turnaround)
	}
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); err != nil {
		t.Fatal(err)
	}
	if n := s.line.Counters().Noise.Load(); n != 4 {
		t.Errorf("counted %d bytes of noise; want 4", n)
	}
}

func TestEchoOfOurOwnRequestIsNoAnswer(t *testing.T) {
	echoing := func(s *slave, answers bool) func(int, []byte, time.Time) {
		return func(n int, q []byte, done time.Time) {
			s.port.Deliver(done, q...)
			if answers {
				s.answer(q, done, s.turnaround)
			}
		}
	}
	t.Run("Read", func(t *testing.T) {
		s, m := newSlave(t)
		s.play = echoing(s, true)
		for count := 1; count <= 20; count++ {
			if err := read(t, s, m, modbus.Request{Address: 5, Start: 0x0400, Count: count}); err != nil {
				t.Errorf("%d registers: %v", count, err)
			}
		}
		if n := s.line.Counters().Echoes.Load(); n != 20 {
			t.Errorf("counted %d echoes; want 20", n)
		}
	})
	t.Run("WriteAnswered", func(t *testing.T) {
		s, m := newSlave(t)
		s.play = echoing(s, true)
		if err := m.Write(ctx, 5, 103, 5000); err != nil {
			t.Fatal(err)
		}
		if s.written[103] != 5000 {
			t.Error("the register was not written")
		}
	})
	t.Run("WriteUnanswered", func(t *testing.T) {
		s, m := newSlave(t)
		s.play = echoing(s, true)
		if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); err != nil {
			t.Fatal(err)
		}
		s.play = echoing(s, false)
		if err := m.Write(ctx, 5, 103, 5000); !errors.Is(err, modbus.ErrNoAnswer) {
			t.Errorf("a write that only its echo answered: %v; want ErrNoAnswer", err)
		}
	})
}

func TestWriteIsRepeatedUnchangedAndItsLateAnswerCounts(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(n int, q []byte, done time.Time) {
		if n == 0 {
			s.answer(q, done, 300*time.Millisecond)
		}
	}
	if err := m.Write(ctx, 5, 103, 5000); !errors.Is(err, modbus.ErrNoAnswer) {
		t.Fatal(err)
	}
	if err := m.Write(ctx, 5, 103, 5000); err != nil {
		t.Fatal(err)
	}
	if gap := s.times[1].Sub(s.times[0]); gap > 300*time.Millisecond {
		t.Errorf("repeating a write waited %v", gap)
	}
}

func TestWriteMultipleWrites(t *testing.T) {
	s, m := newSlave(t)
	if err := m.WriteMultiple(ctx, 5, 100, []uint16{3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint16{3, 4, 5} {
		if got := s.written[100+uint16(i)]; got != want {
			t.Errorf("register %d holds %d; want %d", 100+i, got, want)
		}
	}
}

func TestTimeoutIsLearntFromTheDevice(t *testing.T) {
	s, m := newSlave(t)
	r := modbus.Request{Address: 5, Start: 200, Count: 3}
	if got := m.Timeout(5); got != 250*time.Millisecond {
		t.Errorf("an unknown device is given %v; want 250ms", got)
	}
	for range 5 {
		if err := read(t, s, m, r); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.ReplyTime(5); got < 4*time.Millisecond || got > 6*time.Millisecond {
		t.Errorf("learnt a reply time of %v; the device takes 5ms", got)
	}
	if got := m.Timeout(5); got != 50*time.Millisecond {
		t.Errorf("a device of 5ms is given %v; want the floor of 50ms", got)
	}
	m.SetTiming(5, modbus.Timing{ReplyMin: 80 * time.Millisecond})
	if got := m.Timeout(5); got != 80*time.Millisecond {
		t.Errorf("a device with a minimum of 80ms is given %v", got)
	}
}

func TestDeviceThatBecomesSlowIsHeardAgain(t *testing.T) {
	s, m := newSlave(t)
	r := modbus.Request{Address: 5, Start: 200, Count: 3, First: 200, Last: 230, Attempts: 3}
	for range 20 {
		if err := read(t, s, m, r); err != nil {
			t.Fatal(err)
		}
	}
	s.turnaround = 150 * time.Millisecond
	failed := 0
	for range 20 {
		if read(t, s, m, r) != nil {
			failed++
		}
	}
	if failed > 3 {
		t.Errorf("%d of 20 reads failed after the device went from 5 to 150ms", failed)
	}
	before := s.line.Counters().Timeouts.Load()
	for range 20 {
		_ = read(t, s, m, r)
	}
	if n := s.line.Counters().Timeouts.Load() - before; n != 0 {
		t.Errorf("%d time-outs after there was time to learn", n)
	}
}

func TestEndedContextStopsBetweenAttempts(t *testing.T) {
	s, m := newSlave(t)
	c, cancel := context.WithCancel(ctx)
	s.play = func(int, []byte, time.Time) { cancel() }
	_, err := m.Read(c, modbus.Request{Address: 5, Start: 200, Count: 3, Attempts: 5}, make([]uint16, 3))
	if !errors.Is(err, context.Canceled) || len(s.requests) != 1 {
		t.Errorf("%v after %d attempts; want context.Canceled after 1", err, len(s.requests))
	}
}

func TestVanishedPortIsReportedAsSuch(t *testing.T) {
	s, m := newSlave(t)
	s.play = func(int, []byte, time.Time) { s.port.Vanish() }
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); !errors.Is(err, fieldbus.ErrVanished) {
		t.Fatalf("the adapter was pulled out: %v", err)
	}
	s.port.Fail(nil)
	s.play = nil
	if err := s.line.Open(); err != nil {
		t.Fatal(err)
	}
	if err := read(t, s, m, modbus.Request{Address: 5, Start: 200, Count: 3}); err != nil {
		t.Errorf("after the adapter came back: %v", err)
	}
}

func TestImpossibleRequestsAreRefusedBeforeTheLine(t *testing.T) {
	s, m := newSlave(t)
	for _, r := range []modbus.Request{
		{Address: 0, Start: 1, Count: 1}, {Address: 248, Start: 1, Count: 1},
		{Address: 1, Start: 1, Count: 0}, {Address: 1, Start: 1, Count: 126},
		{Address: 1, Start: 65535, Count: 2},
		{Address: 1, Start: 100, Count: 10, First: 100, Last: 105},
	} {
		if _, err := m.Read(ctx, r, make([]uint16, 200)); err == nil {
			t.Errorf("%+v was sent", r)
		}
	}
	if _, err := m.Read(ctx, modbus.Request{Address: 1, Start: 1, Count: 5}, make([]uint16, 4)); err == nil {
		t.Error("a read into too little room was sent")
	}
	if len(s.requests) != 0 {
		t.Errorf("%d requests were sent", len(s.requests))
	}
}
