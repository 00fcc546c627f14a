package poll

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

func geniFamily(t testing.TB, name string) *profile.Profile {
	t.Helper()
	p, ok := profile.Builtin().Lookup(name)
	if !ok {
		t.Fatalf("no family %s", name)
	}
	return p
}

// geniRig is a bus of virtual GENIbus pumps on a wire in memory.
type geniRig struct {
	*Bus
	t        *testing.T
	clk      *linetest.Clock
	port     *linetest.Port
	units    []*genitest.Unit
	asked    map[byte][]time.Time
	telegram []genibus.Telegram
	readings []telemetry.Reading
	groups   []telemetry.Group // as Rescaled last showed them
	each     func(telemetry.Reading)
	disturb  func(u *genitest.Unit, reply genibus.Telegram, at time.Time)
}

// magna3 is a unit that has what the family asks for, in remote. Its values are
// the IDs.
func magna3(address byte) *genitest.Unit {
	u := genitest.New(address, 1, 10, 1)
	scaled := func(id, unit, rng byte, value ...byte) {
		u.Put(genibus.Measured, id, genibus.Meaning{Format: genibus.Scaled, Unit: unit, Range: int(rng)}, value...)
	}
	scaled(37, 25, 12, 0x7B)       // head
	scaled(39, 23, 32, 0x23)       // flow
	scaled(34, 9, 40, 0xE9)        // power
	scaled(35, 19, 36, 0xA5, 0x40) // speed
	scaled(49, 30, 100, 127)       // set-point
	scaled(32, 11, 254, 100)
	scaled(30, 1, 254, 12)
	scaled(27, 5, 254, 65)
	scaled(28, 21, 150, 60)
	scaled(29, 21, 150, 61)
	scaled(58, 21, 100, 0xFF) // no liquid temperature
	scaled(152, 47, 254, 0x0C, 0xE7)
	for id, v := range map[byte]byte{81: 0x08, 83: 0, 90: 0x22, 112: 1, 158: 0, 156: 0, 24: 1, 25: 2} {
		u.Values[genitest.Item{Class: genibus.Measured, ID: id}] = v
	}
	for id := range 60 {
		u.Values[genitest.Item{Class: genibus.Commands, ID: byte(id)}] = 0
	}
	u.Values[genitest.Item{Class: genibus.Reference, ID: 1}] = 127
	u.Set = func(it genitest.Item, value byte) bool {
		mode1, mode3 := genitest.Item{Class: genibus.Measured, ID: 81}, genitest.Item{Class: genibus.Measured, ID: 83}
		if it.Class != genibus.Commands {
			return true
		}
		switch local := u.Values[mode3]&0x10 != 0; {
		case it.ID == genibus.CmdRemote:
			u.Values[mode3] &^= 0x10
		case local: // acknowledged and ignored
		case it.ID == genibus.CmdLocal:
			u.Values[mode3] |= 0x10
		case it.ID == genibus.CmdStop:
			u.Values[mode1] = u.Values[mode1]&^7 | 1
		case it.ID == genibus.CmdStart:
			u.Values[mode1] &^= 7
		case it.ID == genibus.CmdConstPress:
			u.Values[genitest.Item{Class: genibus.Measured, ID: 112}] = 0
		}
		return true
	}
	return u
}

func newGeniRig(t *testing.T, p *profile.Profile, units ...*genitest.Unit) *geniRig {
	t.Helper()
	r := &geniRig{t: t, clk: linetest.NewClock(), units: units, asked: map[byte][]time.Time{}}
	r.port = linetest.NewPort(r.clk)
	r.port.OnWrite = r.heard
	cfg := Config{Name: "bus1", Port: "memory", Protocol: profile.Genibus}
	for _, u := range units {
		cfg.Devices = append(cfg.Devices, Device{Address: int(u.Address), Profile: p})
	}
	bus, err := NewBus(cfg, Deps{Clock: r.clk, Log: discard, Open: r.port.Open, Rescaled: func() { r.groups = r.Groups() }})
	if err != nil {
		t.Fatal(err)
	}
	r.Bus, r.groups = bus, bus.Groups()
	return r
}

func (r *geniRig) heard(b []byte, at time.Time) {
	var dec genibus.Decoder
	dec.Feed(b)
	q, ok := dec.Next()
	if !ok || q.Size() != len(b) {
		r.t.Errorf("% X is no telegram", b)
		return
	}
	if len(b) > genibus.SmallestBuffer {
		r.t.Errorf("a request of %d bytes", len(b))
	}
	q.PDU = slices.Clone(q.PDU)
	r.telegram = append(r.telegram, q)
	r.asked[q.To] = append(r.asked[q.To], at)
	for _, u := range r.units {
		reply, ok := u.Answer(q)
		if !ok {
			continue
		}
		if reply.Size() > genibus.SmallestBuffer {
			r.t.Errorf("a reply of %d bytes to % X", reply.Size(), q.PDU)
		}
		end := at.Add(genibus.Wire(len(b)) + 5*time.Millisecond + genibus.Wire(reply.Size()))
		if r.disturb != nil {
			r.disturb(u, reply, end)
			continue
		}
		r.port.Deliver(end, reply.Append(nil)...)
	}
}

// run runs the bus for d of the wire's time. at is done when its time has come,
// by another goroutine if it waits for the bus.
func (r *geniRig) run(d time.Duration, at map[time.Duration]func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	begin := r.clk.Now()
	err := r.Run(ctx, func(x telemetry.Reading) {
		r.readings = append(r.readings, x)
		if r.each != nil {
			r.each(x)
		}
		for when, do := range at {
			if r.clk.Now().Sub(begin) >= when {
				delete(at, when)
				do()
			}
		}
		if r.clk.Now().Sub(begin) > d {
			cancel()
		}
	})
	if err != nil {
		r.t.Error(err)
	}
}

// text is a reading as people see it, by the catalogue in force.
func (r *geniRig) text(x telemetry.Reading) string {
	s := r.groups[x.Group].Series[x.Series]
	if x.Quality != telemetry.Good {
		return x.Quality.String()
	}
	return telemetry.Text(s.Enum, s.Unit, s.Scale, x.Raw)
}

func (r *geniRig) last(point string) (text string) {
	for _, x := range r.readings {
		if r.groups[x.Group].Series[x.Series].Point == point {
			text = r.text(x)
		}
	}
	return text
}

func TestAGenibusPumpIsReadInTheWordsOfTheVocabulary(t *testing.T) {
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), magna3(32))
	r.run(30*time.Second, nil)
	for point, want := range map[string]string{
		"head": "5.811 m", "flow": "4.409 m³/h", "power": "3669 W", "setpoint": "50 %", "user_setpoint": "50 %",
		"running": "on", "access": "remote", "alarm": "off", "alarm_code": "none", "control_mode": "proportional pressure",
		"liquid_temperature": "not available", "control_source": "bus", "operating_time": "516 h", "frequency": "25.00 Hz",
		"speed": "2342 rpm",
	} {
		if got := r.last(point); got != want {
			t.Errorf("%s: %q; want %q", point, got, want)
		}
	}
	if s := r.Status(); s.Mode != "9600 8N1" || s.Counters["answers"] == 0 || s.Devices[0].State != OK {
		t.Errorf("%+v", s)
	}
	if n := len(r.telegram); n > 30*3 {
		t.Errorf("%d telegrams in 30 s: the points are not packed", n)
	}
}

func TestInfoIsAskedOnceAndAgainWhenTheControlModeChanges(t *testing.T) {
	u := magna3(32)
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
	infos := func() (n int) {
		for _, q := range r.telegram {
			if a, _, ok, _ := genibus.Next(q.PDU); ok && a.Operation() == genibus.Info {
				n++
			}
		}
		return n
	}
	once := 0
	r.run(60*time.Second, map[time.Duration]func(){
		20 * time.Second: func() { once = infos() },
		30 * time.Second: func() {
			if n := infos(); n != once {
				t.Errorf("%d INFO requests after 20 s, %d after 30 s", once, n)
			}
			u.Values[genitest.Item{Class: genibus.Measured, ID: 112}] = 0 // constant pressure …
			u.Put(genibus.Measured, 49, genibus.Meaning{Format: genibus.Scaled, Unit: 30, Range: 200}, 127)
		},
	})
	if once == 0 || infos() != 2*once {
		t.Errorf("%d INFO requests at first, %d after the change", once, infos())
	}
	if got := r.last("setpoint"); got != "100 %" {
		t.Errorf("the set-point by the new scale is %q", got)
	}
}

func TestItemsThatAPumpRefusesAreLeftOutAndRemembered(t *testing.T) {
	for name, nameless := range map[string]bool{"named": false, "not named": true} {
		u := magna3(32)
		u.Nameless = nameless
		for _, id := range []byte{30, 27, 36, 156, 90} { // current, voltage, the speed's low byte, warnings, source
			delete(u.Values, genitest.Item{Class: genibus.Measured, ID: id})
		}
		r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
		refusals := func() int64 { return r.Status().Counters["exceptions"] }
		first, before := int64(0), int64(0)
		r.run(30*time.Minute, map[time.Duration]func(){
			8 * time.Second: func() { first = refusals() }, 20 * time.Minute: func() { before = refusals() }})
		if again := refusals() - before; first == 0 || again > 2*first {
			t.Errorf("%s: %d refusals at first, %d in the last 10 minutes", name, first, again)
		}
		if d := r.Status().Devices[0]; d.Refused == 0 || d.RefusedSince.IsZero() {
			t.Errorf("%s: status says %d refused since %v", name, d.Refused, d.RefusedSince)
		}
		for point, want := range map[string]string{"head": "5.811 m", "current": "missing", "warning_code": "missing", "speed": "2339 rpm"} {
			if got := r.last(point); got != want {
				t.Errorf("%s: %s is %q; want %q", name, point, got, want)
			}
		}
	}
}

func TestACommandGoesToAGenibusPumpAndIsReadBack(t *testing.T) {
	u := magna3(32)
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
	mode3 := genitest.Item{Class: genibus.Measured, ID: 83}
	u.Values[mode3] = 0x10 // in local
	type result struct {
		Result
		err error
	}
	write := func(name, value string) chan result {
		out := make(chan result, 1)
		go func() {
			res, err := r.Write(context.Background(), Command{Pump: "bus1-32", Name: name, Value: value})
			out <- result{res, err}
		}()
		// The clock moves only with the bus: it must not run away before the
		// command is there.
		for {
			r.Bus.mu.Lock()
			n := len(r.commands)
			r.Bus.mu.Unlock()
			if n > 0 || len(out) > 0 {
				return out
			}
		}
	}
	var local, taken, stop, setpoint, mode, wrong chan result
	r.run(2*time.Minute, map[time.Duration]func(){
		5 * time.Second:  func() { local = write("running", "off") },
		15 * time.Second: func() { taken = write("access", "remote") },
		25 * time.Second: func() { stop = write("running", "off") },
		45 * time.Second: func() { setpoint = write("setpoint", "75 %") },
		65 * time.Second: func() { mode = write("control_mode", "constant pressure") },
		85 * time.Second: func() { wrong = write("control_mode", "constant level") },
	})
	if got := <-local; !errors.Is(got.err, ErrRefused) || !strings.Contains(got.err.Error(), "local") {
		t.Errorf("a stop in local: %v", got.err)
	}
	for name, tc := range map[string]struct {
		got  result
		want string
	}{
		"access": {<-taken, "remote"}, "running": {<-stop, "off"}, "setpoint": {<-setpoint, "75.20 %"}, "control_mode": {<-mode, "constant pressure"},
	} {
		if tc.got.err != nil || !strings.HasPrefix(tc.got.Text, tc.want[:2]) {
			t.Errorf("%s: %q, %v; want %q", name, tc.got.Text, tc.got.err, tc.want)
		}
	}
	if got := <-wrong; !errors.Is(got.err, ErrRefused) {
		t.Errorf("a mode that the pump does not take: %v", got.err)
	}
}

func TestAPumpInRemoteIsNeverLeftAlone(t *testing.T) {
	slow, err := profile.Parse("slow.yaml", []byte(`
title: slow
source: test
protocol: genibus
confidence: D
period: 1m
points:
  - {point: head, id: 37}
  - {point: access, id: 83, bits: 4, map: {0: 1, 1: 0}}
`))
	if err != nil {
		t.Fatal(err)
	}
	u := magna3(32)
	r := newGeniRig(t, slow, u, magna3(33))
	deaf := 0
	r.disturb = func(v *genitest.Unit, reply genibus.Telegram, at time.Time) {
		if v == u && r.clk.Now().Sub(linetest.Epoch) > 90*time.Second && deaf < 6 {
			deaf++ // it fails for a while, and earns penalties
			return
		}
		r.port.Deliver(at, reply.Append(nil)...)
	}
	r.run(5*time.Minute, nil)
	for address, times := range r.asked {
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap > genibus.KeepAlive {
				t.Errorf("pump %d was left alone for %v, at %v", address, gap, times[i-1].Sub(linetest.Epoch))
			}
		}
	}
	if deaf != 6 {
		t.Errorf("it was deaf %d times", deaf)
	}
}

func TestAFallBackToLocalIsSeenAndNeverTakenBack(t *testing.T) {
	u := magna3(32)
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), u)
	r.run(time.Minute, map[time.Duration]func(){
		20 * time.Second: func() { u.Values[genitest.Item{Class: genibus.Measured, ID: 83}] = 0x10 },
	})
	if got := r.last("access"); got != "local" {
		t.Errorf("access is %q", got)
	}
	for _, q := range r.telegram {
		for rest := q.PDU; ; {
			a, more, ok, _ := genibus.Next(rest)
			if !ok {
				break
			}
			if rest = more; a.Operation() == genibus.Set {
				t.Fatalf("the bus sent a SET: % X", q.PDU)
			}
		}
	}
}

func TestDeadGenibusPumpsDoNotDisturbTheOneThatLives(t *testing.T) {
	units := []*genitest.Unit{magna3(32), magna3(33), magna3(34), magna3(35)}
	for _, u := range units[1:] {
		u.Deaf = true
	}
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), units...)
	r.run(3*time.Minute, nil)
	s := r.Status()
	if s.Dead > 0.12 {
		t.Errorf("dead pumps took %.0f %% of the bus", 100*s.Dead)
	}
	if s.Devices[0].State != OK || s.Devices[0].Dropped > 3 {
		t.Errorf("the living one: %+v", s.Devices[0])
	}
	for _, d := range s.Devices[1:] {
		if d.State != Dead || !strings.Contains(d.Problem, "9600 8N1") {
			t.Errorf("%d is %s: %s", d.Address, d.State, d.Problem)
		}
	}
}

func TestAnotherMasterOnAGenibusIsSaid(t *testing.T) {
	r := newGeniRig(t, geniFamily(t, "geni-magna3"), magna3(32))
	theirs := genibus.Telegram{Start: genibus.DataRequest, To: 40, From: 4, PDU: genibus.AppendGet(nil, genibus.Measured, 37)}.Append(nil)
	for i := range 40 {
		r.port.Deliver(r.clk.Now().Add(5*time.Second+time.Duration(i)*200*time.Millisecond), theirs...)
	}
	quiet := 0
	r.run(25*time.Second, map[time.Duration]func(){
		12 * time.Second: func() {
			if s := r.Status(); s.OK || !strings.Contains(s.Problem, "another master (address 4)") {
				t.Errorf("%v, %q", s.OK, s.Problem)
			}
			quiet = len(r.telegram)
		},
		17 * time.Second: func() {
			if n := len(r.telegram); n != quiet {
				t.Errorf("%d telegrams beside another master", n-quiet)
			}
		},
	})
}

// TestGenibusPlansHoldWhatTheyPromise plans random points for random
// buffers, and holds the plans to what they promise.
func TestGenibusPlansHoldWhatTheyPromise(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 500 {
		var items []item
		known := make([]geniKnown, 80)
		var due set
		for i := range 1 + rng.IntN(80) {
			g := &profile.GeniItem{Class: []int{2, 2, 2, 4, 5, 14}[rng.IntN(6)]}
			first := rng.IntN(200)
			for k := range 1 + rng.IntN(3) {
				if g.Class != 14 || k == 0 {
					g.IDs = append(g.IDs, byte(first+k))
				}
			}
			items = append(items, item{Item: profile.Item{Geni: g}})
			known[i].absent = rng.IntN(10) == 0
			if rng.IntN(4) > 0 {
				due.add(i)
			}
		}
		buffer := 70 + rng.IntN(60)
		frames := planGeni(items, known, buffer, due, geniCost(5*time.Millisecond))
		var seen set
		values := 0
		for _, f := range frames {
			if !genibus.Fits(f.geni.pdu, buffer) {
				t.Fatalf("% X does not fit %d bytes", f.geni.pdu, buffer)
			}
			if want := genibus.Wire(2*genibus.Overhead+len(f.geni.pdu)+genibus.ReplySize(f.geni.pdu)) + genibus.Gap + 5*time.Millisecond; want-f.cost > time.Microsecond*70 {
				t.Fatalf("a cost of %v; the wire takes %v", f.cost, want)
			}
			for _, p := range f.geni.picks {
				if seen.has(p.item) {
					t.Fatal("an item twice")
				}
				seen.add(p.item)
				values += len(p.at)
			}
		}
		total := 0
		for i := range items {
			if due.has(i) && !known[i].absent {
				total += items[i].Geni.Bytes()
				if !seen.has(i) {
					t.Fatal("an item was forgotten")
				}
			} else if seen.has(i) {
				t.Fatal("an item that nobody asked for")
			}
		}
		// First fit is never twice the least number of telegrams.
		if least := (total + 40) / 41; len(frames) > 2*least+3 {
			t.Fatalf("%d telegrams for %d bytes", len(frames), total)
		}
	}
}

func TestGenibusConfigurationMistakesAreNamed(t *testing.T) {
	magna := geniFamily(t, "geni-magna3")
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Protocol: profile.Genibus, Devices: []Device{{Address: 31, Profile: magna}}}, "use 32 to 231"},
		{Config{Protocol: profile.Genibus, Devices: []Device{{Address: 40, Profile: epump(t)}}}, "speaks modbus"},
		{Config{Devices: []Device{{Address: 40, Profile: magna}}}, "speaks genibus"},
	} {
		_, err := NewBus(tc.cfg, Deps{Clock: linetest.NewClock(), Log: discard})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v; want %q", err, tc.want)
		}
	}
}
