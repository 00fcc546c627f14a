package genibus_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
)

var (
	_   genibus.Line = (*fieldbus.Line)(nil)
	ctx              = context.Background()
)

func get(ids ...byte) []byte { return genibus.AppendGet(nil, genibus.Measured, ids...) }

// values are the data of a reply's only APDU.
func values(t testing.TB, reply []byte) []byte {
	t.Helper()
	a, rest, ok, err := genibus.Next(reply)
	if err != nil || !ok || len(rest) > 0 {
		t.Fatalf("reply % X", reply)
	}
	return a.Data
}

func TestValuesComeInTheOrderThatWasAsked(t *testing.T) {
	b := newBus(t, unit(32), unit(33))
	reply, at, err := b.master.Do(ctx, 33, get(37, 39, 34), 70)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, reply); !bytes.Equal(got, []byte{37, 39, 34}) {
		t.Errorf("got % d", got)
	}
	if !at.Equal(b.at[0]) {
		t.Errorf("measured at %v; the request left at %v", at, b.at[0])
	}
	if got := b.master.ReplyTime(33); got != b.turnaround {
		t.Errorf("reply time %v; want %v", got, b.turnaround)
	}
}

func TestTelegramsArePartedBySilence(t *testing.T) {
	b := newBus(t, unit(32))
	for i := range 10 {
		if _, _, err := b.master.Do(ctx, 32, get(byte(30+i), byte(31+i)), 70); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i < len(b.at); i++ {
		// What was asked and answered, the turnaround, then the gap.
		exchange := genibus.Wire(b.sent[i-1].Size()+len(b.sent[i-1].PDU)+genibus.Overhead) + b.turnaround
		if gap := b.at[i].Sub(b.at[i-1]) - exchange; gap < genibus.Gap-time.Microsecond {
			t.Errorf("telegram %d left %v after the reply; want %v", i, gap, genibus.Gap)
		}
	}
}

func TestConsecutiveTelegramsDifferInStructure(t *testing.T) {
	b := newBus(t, unit(32))
	set := genibus.AppendSet(nil, genibus.Commands, 7)
	for i := range 40 {
		pdu := [][]byte{get(37, 39), genibus.AppendInfo(nil, genibus.Measured, 37), set}[i/14]
		reply, _, err := b.master.Do(ctx, 32, pdu, 70)
		if err != nil {
			t.Fatal(err)
		}
		if err := genibus.Match(pdu, reply); err != nil {
			t.Fatalf("the caller got % X to % X: %v", reply, pdu, err)
		}
	}
	for i := 1; i < len(b.sent); i++ {
		if b.at[i].Sub(b.at[i-1]) < 200*time.Millisecond && bytes.Equal(b.sent[i].PDU, b.sent[i-1].PDU) {
			t.Errorf("telegrams %d and %d are alike: % X", i-1, i, b.sent[i].PDU)
		}
	}
	if took := b.at[len(b.at)-1].Sub(b.at[0]); took > 40*60*time.Millisecond {
		t.Errorf("40 transactions took %v: it waited instead of varying", took)
	}
}

func TestLateReplyIsNeverTakenForTheNextAnswer(t *testing.T) {
	b := newBus(t, unit(32))
	late := 150 * time.Millisecond
	b.disturb = func(reply genibus.Telegram, at time.Time) {
		b.port.Deliver(at.Add(late), reply.Append(nil)...)
		late = 0
	}
	if _, _, err := b.master.Do(ctx, 32, get(37, 39), 70); !errors.Is(err, genibus.ErrNoAnswer) {
		t.Fatalf("got %v; want no answer", err)
	}
	reply, _, err := b.master.Do(ctx, 32, get(41, 42), 70)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, reply); !bytes.Equal(got, []byte{41, 42}) {
		t.Errorf("got % d", got)
	}
	if took := b.at[1].Sub(b.at[0]); took > 150*time.Millisecond {
		t.Errorf("a request that looks different had to wait %v", took)
	}
	if err := b.master.Overhear(ctx, b.clk.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := b.master.Stats(); s.Stale != 1 || s.Timeouts != 1 {
		t.Errorf("%+v", s)
	}
}

func TestARepeatedRequestCarriesTheTimeOfItsFirstAttempt(t *testing.T) {
	b := newBus(t, unit(32))
	lose := true
	b.disturb = func(reply genibus.Telegram, at time.Time) {
		if lose {
			lose = false
			return
		}
		b.port.Deliver(at, reply.Append(nil)...)
	}
	if _, _, err := b.master.Do(ctx, 32, get(37), 70); !errors.Is(err, genibus.ErrNoAnswer) {
		t.Fatal(err)
	}
	_, at, err := b.master.Do(ctx, 32, get(37), 70)
	if err != nil {
		t.Fatal(err)
	}
	if !at.Equal(b.at[0]) || !bytes.Equal(b.sent[0].PDU, b.sent[1].PDU) {
		t.Errorf("measured at %v; the first attempt was at %v", at, b.at[0])
	}
	if waited := b.at[1].Sub(b.at[0]); waited > 120*time.Millisecond {
		t.Errorf("the retry came after %v", waited)
	}
}

func TestARetryMayBeAnsweredTwice(t *testing.T) {
	b := newBus(t, unit(32))
	n := 0
	b.disturb = func(reply genibus.Telegram, at time.Time) {
		if n++; n == 1 { // the first reply comes after the second
			b.port.Deliver(at.Add(110*time.Millisecond), reply.Append(nil)...)
			return
		}
		b.port.Deliver(at, reply.Append(nil)...)
	}
	if _, _, err := b.master.Do(ctx, 32, get(37), 70); err == nil {
		t.Fatal("the late reply came in time")
	}
	if _, _, err := b.master.Do(ctx, 32, get(37), 70); err != nil {
		t.Fatal(err)
	}
	for id := byte(41); id < 50; id++ {
		reply, _, err := b.master.Do(ctx, 32, get(id), 70)
		if err != nil {
			t.Fatal(err)
		}
		if got := values(t, reply); got[0] != id {
			t.Errorf("item %d reads %d", id, got[0])
		}
	}
}

// TestNoFaultEverMakesAWrongValue plays a line on which everything goes wrong at
// random. internal/lab/bench plays a million of these.
func TestNoFaultEverMakesAWrongValue(t *testing.T) {
	units := []byte{32, 33, 34}
	b := newBus(t)
	for _, a := range units {
		b.units = append(b.units, unit(a))
	}
	r := random(1)
	b.disturb = func(reply genibus.Telegram, at time.Time) { Disturb(b, r, reply, at) }
	right, failed := 0, 0
	for range 20000 {
		to := units[r.IntN(len(units))]
		ids := make([]byte, 1+r.IntN(4))
		for i := range ids {
			ids[i] = byte(21 + r.IntN(79))
		}
		reply, at, err := b.master.Do(ctx, to, get(ids...), 70)
		if err != nil {
			failed++
			if !errors.Is(err, genibus.ErrNoAnswer) && !errors.Is(err, genibus.ErrDamaged) {
				t.Fatal(err)
			}
			reply, at, err = b.master.Do(ctx, to, get(ids...), 70)
		}
		if err != nil {
			continue
		}
		if got := values(t, reply); !bytes.Equal(got, ids) {
			t.Fatalf("asked for % d, got % d", ids, got)
		}
		// Measured when it was asked for the first time, or after.
		if at.After(b.at[len(b.at)-1]) {
			t.Fatal("a value from the future")
		}
		right++
	}
	if right < 10000 || failed < 1000 {
		t.Errorf("%d right, %d failed: the line was not disturbed as planned", right, failed)
	}
	if s := b.master.Stats(); s.Stale == 0 || s.Malformed.Checksum == 0 || s.Malformed.Cut == 0 || s.Malformed.Noise == 0 {
		t.Errorf("%+v", s)
	}
}

// Disturb makes one of the things happen to a reply that happen to replies.
func Disturb(b *bus, r *rand.Rand, reply genibus.Telegram, at time.Time) {
	bytes := reply.Append(nil)
	switch r.IntN(20) {
	case 0: // lost
	case 1: // late, up to a little less than the quiet window
		b.port.Deliver(at.Add(time.Duration(r.IntN(200))*time.Millisecond), bytes...)
	case 2: // said twice
		b.port.Deliver(at, bytes...)
		b.port.Deliver(at.Add(time.Duration(r.IntN(100))*time.Millisecond), bytes...)
	case 3: // a bit flips
		bytes[r.IntN(len(bytes))] ^= 1 << r.IntN(8)
		b.port.Deliver(at, bytes...)
	case 4: // cut
		b.port.Deliver(at, bytes[:1+r.IntN(len(bytes)-1)]...)
	case 5: // noise before it
		b.port.Deliver(at, append([]byte{byte(r.IntN(256)), byte(r.IntN(256))}, bytes...)...)
	case 6: // in pieces
		k := 1 + r.IntN(len(bytes)-1)
		b.port.Deliver(at, bytes[:k]...)
		b.port.Deliver(at.Add(time.Duration(r.IntN(15))*time.Millisecond), bytes[k:]...)
	case 7: // from another device
		reply.From++
		b.port.Deliver(at, reply.Append(nil)...)
	default:
		b.port.Deliver(at, bytes...)
	}
}

func TestOurOwnEchoIsNoAnswer(t *testing.T) {
	b := newBus(t, unit(32))
	deliver := b.port.OnWrite
	b.port.OnWrite = func(telegram []byte, at time.Time) {
		b.port.Deliver(at.Add(genibus.Wire(len(telegram))), slices.Clone(telegram)...)
		deliver(telegram, at)
	}
	for id := byte(30); id < 40; id++ {
		reply, _, err := b.master.Do(ctx, 32, get(id), 70)
		if err != nil || values(t, reply)[0] != id {
			t.Fatalf("% X, %v", reply, err)
		}
	}
	if s := b.master.Stats(); s.Echoes != 10 || s.Foreign != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAnotherMasterIsNamedAndLeftInPeace(t *testing.T) {
	b := newBus(t, unit(32))
	theirs := genibus.Telegram{Start: genibus.DataRequest, To: 40, From: 4, PDU: get(37)}.Append(nil)
	for i := range 20 {
		b.port.Deliver(b.clk.Now().Add(time.Duration(i)*200*time.Millisecond), theirs...)
	}
	var other *genibus.OtherMasterError
	var err error
	for range 20 {
		if _, _, err = b.master.Do(ctx, 32, get(37), 70); err != nil {
			break
		}
		b.clk.Advance(100 * time.Millisecond)
	}
	if !errors.As(err, &other) || other.Address != 4 {
		t.Fatalf("got %v; want another master at 4", err)
	}
	before := len(b.sent)
	for len(b.sent) == before {
		b.clk.Advance(500 * time.Millisecond)
		if _, _, err := b.master.Do(ctx, 32, get(37), 70); err != nil && !errors.As(err, &other) {
			t.Fatal(err)
		}
	}
	if silent := b.at[before].Sub(other.Heard); silent < 10*time.Second {
		t.Errorf("it spoke again %v after the other master", silent)
	}
}

func TestStrayTelegramsDoNotSilenceTheMaster(t *testing.T) {
	b := newBus(t, unit(32))
	r := random(5)
	for i := range 200 { // from other addresses each time, or from one now and then
		from := byte(2 + i%28)
		if i%40 == 0 {
			from = 4
		}
		stray := genibus.Telegram{Start: genibus.DataRequest, To: 40, From: from, PDU: get(37)}.Append(nil)
		b.port.Deliver(b.clk.Now().Add(time.Duration(i)*500*time.Millisecond+time.Duration(r.IntN(100))*time.Millisecond), stray...)
	}
	for range 100 {
		if _, _, err := b.master.Do(ctx, 32, get(37), 70); err != nil && !errors.Is(err, genibus.ErrNoAnswer) && !errors.Is(err, genibus.ErrDamaged) {
			t.Fatal(err)
		}
		b.clk.Advance(time.Second)
	}
	if n := b.master.Stats().Foreign; n < 100 {
		t.Errorf("%d stray telegrams were heard", n)
	}
}

func TestAFewTelegramsSilenceTheMasterForAShortTime(t *testing.T) {
	b := newBus(t, unit(32))
	stray := genibus.Telegram{Start: genibus.DataRequest, To: 40, From: 4, PDU: get(37)}.Append(nil)
	for i := range 3 {
		b.port.Deliver(b.clk.Now().Add(time.Duration(i)*time.Second), stray...)
	}
	var silent time.Duration
	for range 300 {
		var other *genibus.OtherMasterError
		if _, _, err := b.master.Do(ctx, 32, get(37), 70); errors.As(err, &other) {
			silent += 100 * time.Millisecond
		}
		b.clk.Advance(100 * time.Millisecond)
	}
	if silent == 0 || silent > 4*time.Second {
		t.Errorf("silent for %v", silent)
	}
}

func TestAnEmptyRequestKeepsAPumpAwake(t *testing.T) {
	b := newBus(t, unit(32))
	reply, _, err := b.master.Do(ctx, 32, nil, 70)
	if err != nil || len(reply) != 0 {
		t.Fatalf("% X, %v", reply, err)
	}
	if b.master.Spoken(32) != b.at[0] || b.units[0].Addressed != 1 {
		t.Error("the unit was not addressed")
	}
}

func TestAMessageIsNotAnswered(t *testing.T) {
	b := newBus(t, unit(32))
	if err := b.master.Tell(ctx, genibus.Broadcast, genibus.AppendSet(nil, genibus.Commands, 5)); err != nil {
		t.Fatal(err)
	}
	if took := b.clk.Now().Sub(b.at[0]); took < genibus.Wire(9)+genibus.AfterMessage {
		t.Errorf("the bus was left alone for %v only", took)
	}
}

func TestRequestsThatCannotFitAreRefusedBeforeTheyAreSent(t *testing.T) {
	b := newBus(t, unit(32))
	if _, _, err := b.master.Do(ctx, 32, genibus.AppendInfo(nil, genibus.Measured, make([]byte, 16)...), 70); err == nil {
		t.Error("an INFO of 16 items was sent to a buffer of 70 bytes")
	}
	if _, _, err := b.master.Do(ctx, 31, get(37), 70); err == nil {
		t.Error("address 31 is no slave's")
	}
	if len(b.sent) != 0 {
		t.Errorf("sent %v", b.sent)
	}
}

func TestASteadyTransactionAllocatesNothing(t *testing.T) {
	b := newBus(t, unit(32))
	// A wire that allocates nothing itself: the replies are made beforehand.
	line := &steady{clk: b.clk, replies: map[int][]byte{}}
	for n := 2; n < 8; n++ {
		line.replies[n] = genibus.Telegram{Start: genibus.DataReply, To: 1, From: 32, PDU: get(make([]byte, n)...)}.Append(nil)
	}
	m := genibus.NewMaster(line, b.clk, 1)
	pdu := get(37, 39)
	do := func() {
		if _, _, err := m.Do(ctx, 32, pdu, 70); err != nil {
			t.Fatal(err)
		}
	}
	do()
	if n := testing.AllocsPerRun(1000, do); n != 0 {
		t.Errorf("%v allocations a transaction", n)
	}
}

// steady answers each request at once, from replies by their count of values.
type steady struct {
	clk interface {
		Now() time.Time
		Advance(time.Duration)
	}
	replies map[int][]byte
	next    []byte
}

func (s *steady) Write(b []byte) (time.Time, error) {
	at := s.clk.Now()
	s.next = s.replies[int(b[5])]
	s.clk.Advance(30 * time.Millisecond)
	return at, nil
}

func (s *steady) Read(p []byte, _ time.Time) (int, error) {
	n := copy(p, s.next)
	s.next = s.next[n:]
	return n, nil
}

func (s *steady) Quiet(d time.Duration, _ []byte) (int, error) {
	s.clk.Advance(d)
	return 0, nil
}

// Turned or lengthened on the wire, the caller's reply is in the order of its
// request.
func TestTheCallerSeesNothingOfHowARequestWasVaried(t *testing.T) {
	b := newBus(t, unit(32))
	pdu := genibus.AppendGet(genibus.AppendGet(get(37, 39, 41), genibus.Reference, 1), genibus.Configuration, 46, 47)
	turned := 0
	for range 30 {
		reply, _, err := b.master.Do(ctx, 32, pdu, 70)
		if err != nil {
			t.Fatal(err)
		}
		want := []byte{2, 3, 37, 39, 41, 5, 1, 0, 4, 2, 32, 247}
		if !bytes.Equal(reply, want) {
			t.Fatalf("got % X; want % X", reply, want)
		}
		if b.sent[len(b.sent)-1].PDU[0] == byte(genibus.Configuration) {
			turned++
		}
	}
	if turned == 0 || turned == 30 {
		t.Errorf("%d of 30 were turned", turned)
	}
	// What sets something keeps its order.
	set := genibus.AppendSet(genibus.AppendSet(nil, genibus.Commands, 7), genibus.Reference, 1, 100)
	for range 5 {
		if _, _, err := b.master.Do(ctx, 32, set, 70); err != nil {
			t.Fatal(err)
		}
		if sent := b.sent[len(b.sent)-1].PDU; !bytes.HasPrefix(sent, set) {
			t.Errorf("sent % X", sent)
		}
	}
}
