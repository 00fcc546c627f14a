package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
	"penstock/fieldbus/pumpsim/fault"
)

// credulous is a master as most are: it sends, and takes the first bytes of the
// right number, address and function that come before its time-out.
type credulous struct{ line *fieldbus.Line }

func (c credulous) Read(_ context.Context, r modbus.Request, dst []uint16) (time.Time, error) {
	began := c.line.Clock().Now()
	function := byte(3)
	if r.Functions == modbus.Input {
		function = 4
	}
	h := gomodbus.NewRTUClientHandler("")
	h.SlaveId = r.Address
	adu, err := h.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: []byte{byte(r.Start >> 8), byte(r.Start), 0, byte(r.Count)}})
	if err != nil {
		return began, err
	}
	var heard [256]byte
	if _, err := c.line.Quiet(modbus.Silence(c.line.Mode()), heard[:]); err != nil {
		return began, err
	}
	at, err := c.line.Write(adu)
	if err != nil {
		return began, err
	}
	reply := make([]byte, 5+2*r.Count)
	for n := 0; n < len(reply); {
		k, err := c.line.Read(reply[n:], at.Add(lateTimeout))
		if err != nil {
			return began, modbus.ErrNoAnswer
		}
		n += k
	}
	if h.Verify(adu, reply) != nil || reply[2] != byte(2*r.Count) {
		return began, modbus.ErrDamaged
	}
	if _, err := h.Decode(reply); err != nil {
		return began, modbus.ErrDamaged
	}
	for i := range dst {
		dst[i] = uint16(reply[3+2*i])<<8 | uint16(reply[4+2*i])
	}
	return began, nil
}

func TestACredulousMasterIsCaught(t *testing.T) {
	o, err := newDay(1, false).play(t.Context(), func(l *fieldbus.Line) reader { return credulous{l} })
	if err != nil {
		t.Fatal(err)
	}
	if o.wrong < 100 || o.answered < 1000 {
		t.Errorf("a master that believes what it hears has %d wrong values in %d answers", o.wrong, o.answered)
	}
}

func TestNoValueIsWrongOnBadDays(t *testing.T) {
	o, err := manyDays(t.Context(), 1, 20_000, false)
	if err != nil {
		t.Fatal(err)
	}
	if o.wrong != 0 {
		t.Errorf("%d wrong values in %d answers", o.wrong, o.answered)
	}
	if o.answered < 15_000 || o.damaged < 500 || o.failed == 0 {
		t.Errorf("the days were not as bad, or not as good, as they should be: %+v", o)
	}
}

func TestADayPlaysTheSameWayAgain(t *testing.T) {
	open := func(l *fieldbus.Line) reader { return modbus.NewMaster(l) }
	first, err := newDay(2, false).play(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := newDay(2, false).play(t.Context(), open); err != nil || again != first {
		t.Errorf("the same day went %+v, and then %+v (%v)", first, again, err)
	}
}

// Lateness goes by the devices' own reply time, because that is what a master
// has learnt of them by then.
func TestWhatIsLearntIsTheDevicesReplyTime(t *testing.T) {
	d := newDay(1, false)
	d.reads = d.reads[:lateWarmUp]
	var m *modbus.Master
	if _, err := d.play(t.Context(), func(l *fieldbus.Line) reader { m = modbus.NewMaster(l); return m }); err != nil {
		t.Fatal(err)
	}
	for i, own := range d.turnround {
		if learnt := m.ReplyTime(byte(i + 1)); learnt < own-time.Microsecond || learnt > own+100*time.Microsecond {
			t.Errorf("device %d takes %v, and the master has learnt %v", i+1, own, learnt)
		}
	}
}

// planted is a line whose device 1 was asked for registers from 200 on twice.
func planted(t *testing.T) (d *tagged, times [2]time.Time) {
	t.Helper()
	l := newDay(1, false).line(nil)
	times = [2]time.Time{linetest.Epoch, linetest.Epoch.Add(time.Second)}
	for _, at := range times {
		l.hear(seal([]byte{1, 3, 0, 200, 0, 4}), at)
	}
	return l.devices[1], times
}

func TestVerdictFindsPlantedWrongValues(t *testing.T) {
	d, at := planted(t)
	taken := func(start uint16, sample int) (v []uint16) {
		for i := range uint16(4) {
			v = append(v, value(1, start+i, sample))
		}
		return v
	}
	mixed := append(taken(200, 0)[:2], taken(200, 1)[2:]...)
	flipped := taken(200, 1)
	flipped[3] ^= 1 << 9
	for _, c := range []struct {
		name   string
		values []uint16
		stated time.Time
		right  bool
	}{
		{"the second answer, read second", taken(200, 1), at[1], true},
		{"the second answer, asked for since the first", taken(200, 1), at[0], true},
		{"the first answer, read first", taken(200, 0), at[0], true},
		{"the first answer, said to be of the second read", taken(200, 0), at[1], false},
		{"registers from 201 on", taken(201, 1), at[0], false},
		{"half of one answer, half of the other", mixed, at[0], false},
		{"one bit flipped", flipped, at[0], false},
	} {
		if got := d.verdict(200, c.values, c.stated); got != c.right {
			t.Errorf("%s: right is %v; want %v", c.name, got, c.right)
		}
	}
}

func TestJudgeReadsAMastersLog(t *testing.T) {
	dev, at := planted(t)
	l := &badLine{devices: map[byte]*tagged{1: dev}, requests: 2}
	r := modbus.Request{Address: 1, Start: 200, Count: 1}
	d := &day{reads: []modbus.Request{r, r, r, r}}
	micros := func(m int64) time.Time { return linetest.Epoch.Add(time.Duration(m) * time.Microsecond) }
	o, err := d.judge(l, []string{
		"0 error",
		fmt.Sprintf("0 %d", value(1, 200, 0)),
		fmt.Sprintf("%d %d", at[1].Sub(at[0]).Microseconds(), value(1, 200, 0)), // stale
		fmt.Sprintf("0 %d 7", value(1, 200, 0)),                                 // one too many
	}, micros)
	if want := (outcome{transactions: 2, answered: 3, failed: 1, wrong: 2}); err != nil || o != want {
		t.Errorf("%+v, %v; want %+v", o, err, want)
	}
	if _, err := d.judge(l, []string{"0 error"}, micros); err == nil {
		t.Error("a log that is too short was judged")
	}
	if _, err := d.judge(l, []string{"x 1", "0 1", "0 1", "0 1"}, micros); err == nil {
		t.Error("a log that cannot be read was judged")
	}
}

// What CRC-16 always finds, chapter 6.2 of the serial line guide and its
// polynomial x^16 + x^15 + x^2 + 1: up to three flipped bits, and any burst of
// up to 16.
func TestCountedDamageIsAlwaysFound(t *testing.T) {
	dice := fault.NewDice([]fault.Rule{{Kind: fault.Flip, Rate: 1, N: 3}, {Kind: fault.Burst, Rate: 1, N: 16}}, 1)
	whole := seal([]byte{1, 3, 4, 0x12, 0x34, 0x56, 0x78})
	for i := range 20_000 {
		for _, h := range dice.Draw(i+1, 1) {
			b := append([]byte(nil), whole...)
			if h.Kind == fault.Flip {
				fault.FlipBits(b, h.N, h.Roll)
			} else {
				fault.BurstBits(b, h.N, h.Roll)
			}
			if string(seal(append([]byte(nil), b[:len(b)-2]...))) == string(b) {
				t.Fatalf("% x has a sound checksum", b)
			}
		}
	}
}

func TestAnswersDoNotOverlapOnTheWire(t *testing.T) {
	l := newDay(1, false).line(nil)
	frame := make([]byte, 20)
	start := linetest.Epoch
	first := l.send(frame, start.Add(time.Second), 0, len(frame))
	before := l.send(frame, start, 0, len(frame))
	after := l.send(frame, start.Add(time.Second), 3*time.Millisecond, 5)
	gap, took := modbus.Silence(l.mode), l.mode.Wire(len(frame))
	if !first.Equal(start.Add(time.Second+took)) || !before.Equal(start.Add(took)) || !after.Equal(first.Add(gap+took+3*time.Millisecond)) {
		t.Errorf("frames end at %v, %v, %v after the start", first.Sub(start), before.Sub(start), after.Sub(start))
	}
	var bytes int
	var last time.Time
	l.take(after, func(a arrival) {
		if a.at.Before(last) || len(a.bytes) > piece {
			t.Errorf("%d bytes at %v, after %v", len(a.bytes), a.at.Sub(start), last.Sub(start))
		}
		last = a.at
		bytes += len(a.bytes)
	})
	if bytes != 60 || !last.Equal(after) {
		t.Errorf("%d of 60 bytes arrived, the last at %v; want %v", bytes, last.Sub(start), after.Sub(start))
	}
}
