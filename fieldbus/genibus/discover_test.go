package genibus_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
)

// connecting makes the units of a bus answer connection requests as the
// specification says: not while they were polled in the last 20 s, and after a
// random delay. Answers that overlap destroy one another.
func connecting(b *bus, polled map[*genitest.Unit]time.Time) {
	r := random(5)
	b.port.OnWrite = func(telegram []byte, at time.Time) {
		var d genibus.Decoder
		d.Feed(telegram)
		t, _ := d.Next()
		b.sent, b.at = append(b.sent, t), append(b.at, at)
		type answer struct {
			at, end time.Time
			bytes   []byte
		}
		var all []answer
		for _, u := range b.units {
			last, was := polled[u]
			if t.To == genibus.ConnectionRequest && was && at.Sub(last) < genibus.NotPolled {
				continue
			}
			delay := b.turnaround
			if t.To == genibus.ConnectionRequest {
				delay = time.Duration(3+r.IntN(41)) * time.Millisecond
			} else if t.To == u.Address {
				polled[u] = at
			}
			if reply, ok := u.Answer(t); ok {
				begin := at.Add(genibus.Wire(len(telegram)) + delay)
				all = append(all, answer{begin, begin.Add(genibus.Wire(reply.Size())), reply.Append(nil)})
			}
		}
		slices.SortFunc(all, func(a, b answer) int { return a.at.Compare(b.at) })
		var talking []answer
		for _, a := range all {
			// Who hears another keeps silent; within a millisecond nobody hears.
			hears := slices.ContainsFunc(talking, func(o answer) bool { return a.at.Sub(o.at) > time.Millisecond && a.at.Before(o.end) })
			if t.To != genibus.ConnectionRequest || !hears {
				talking = append(talking, a)
			}
		}
		for i, a := range talking {
			for k, o := range talking {
				if k != i && a.at.Before(o.end) && o.at.Before(a.end) {
					a.bytes[len(a.bytes)/2] ^= byte(0x55 + i)
				}
			}
			b.port.Deliver(a.end, a.bytes...)
		}
	}
}

func TestEveryUnitIsFound(t *testing.T) {
	b := newBus(t)
	polled := map[*genitest.Unit]time.Time{}
	for i := range 12 {
		u := unit(byte(32 + 3*i))
		u.Texts[genibus.TextName] = "MAGNA3"
		b.units = append(b.units, u)
	}
	for _, u := range b.units[8:] { // another master polled them a moment ago
		polled[u] = b.clk.Now().Add(-time.Second)
	}
	connecting(b, polled)
	var told []byte
	got, err := b.master.Discover(ctx, []byte{35, 200}, genibus.DiscoverTime, func(id genibus.Identity) { told = append(told, id.Address) })
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Units) != 12 || len(got.Duplicates) != 0 || told[0] != 35 {
		t.Fatalf("found %v, duplicates %v", told, got.Duplicates)
	}
	if got.Unresolved {
		t.Error("all were told apart, and more are said to be there")
	}
	want := genibus.Identity{Address: 35, Group: 247, Buffer: 70, Family: 1, Type: 10, Version: 1, Name: "MAGNA3"}
	if got.Units[0] != want {
		t.Errorf("got %+v; want %+v", got.Units[0], want)
	}
}

func TestTwoUnitsAtTheFactoryAddressAreReported(t *testing.T) {
	b := newBus(t, unit(genibus.FactoryAddress), unit(genibus.FactoryAddress), unit(40))
	connecting(b, map[*genitest.Unit]time.Time{})
	got, err := b.master.Discover(ctx, nil, genibus.DiscoverTime, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Duplicates, []byte{genibus.FactoryAddress}) {
		t.Errorf("duplicates %v", got.Duplicates)
	}
	if len(got.Units) != 1 || got.Units[0].Address != 40 {
		t.Errorf("units %+v", got.Units)
	}
	if got.Unresolved {
		t.Error("the two are known, and more are said to be there")
	}
}

func TestUnitsThatCollideToTheEndAreSaid(t *testing.T) {
	b := newBus(t, unit(40))
	connecting(b, map[*genitest.Unit]time.Time{})
	answer := b.port.OnWrite
	b.port.OnWrite = func(telegram []byte, at time.Time) {
		answer(telegram, at)
		if telegram[2] == genibus.ConnectionRequest { // two others, always at once
			b.port.Deliver(at.Add(60*time.Millisecond), 0x24, 0x0E, 0x01, 0x55, 0xAA)
		}
	}
	got, err := b.master.Discover(ctx, []byte{40}, genibus.DiscoverTime, nil)
	if err != nil || len(got.Units) != 1 || !got.Unresolved {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnEmptyBusIsEmpty(t *testing.T) {
	b := newBus(t)
	got, err := b.master.Discover(ctx, []byte{40}, genibus.DiscoverTime, nil)
	if err != nil || len(got.Units)+len(got.Duplicates)+got.Collisions != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(b.sent); n < 20 || n > 100 {
		t.Errorf("%d requests in 25 s", n)
	}
}

func TestAnAddressIsSetAndConfirmed(t *testing.T) {
	u := unit(genibus.FactoryAddress)
	u.Texts[genibus.TextSerial] = "9700123"
	b := newBus(t, u, unit(40))
	if err := b.master.SetAddress(ctx, genibus.FactoryAddress, 40); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("to an address that is taken: %v", err)
	}
	if err := b.master.SetAddress(ctx, genibus.FactoryAddress, 41); err != nil || u.Address != 41 {
		t.Errorf("%v; the unit is at %d", err, u.Address)
	}
	if err := b.master.SetAddress(ctx, 41, 20); err == nil {
		t.Error("20 is no slave's address")
	}
	u.Set = func(genitest.Item, byte) bool { return false }
	var refused *genibus.Refusal
	if err := b.master.SetAddress(ctx, 41, 42); !errors.As(err, &refused) {
		t.Errorf("refused: %v", err)
	}
}

func TestRefusedItemsAreFoundOut(t *testing.T) {
	u := unit(32)
	b := newBus(t, u)
	var ids, absent []byte
	for id := byte(21); id < 90; id++ {
		ids = append(ids, id)
		if id%17 == 0 {
			absent = append(absent, id)
			delete(u.Values, genitest.Item{Class: genibus.Measured, ID: id})
		}
	}
	seen := map[byte]bool{}
	refused, err := b.master.Collect(ctx, 32, genibus.Measured, genibus.Info, ids, 70, func(id byte, data []byte) {
		if _, _, err := genibus.ParseInfo(data); err != nil {
			t.Errorf("item %d: %v", id, err)
		}
		seen[id] = true
	})
	if err != nil || !bytes.Equal(refused, absent) || len(seen) != len(ids)-len(absent) {
		t.Errorf("refused %v, %v; want %v; %d answered", refused, err, absent, len(seen))
	}
	// A device that says "illegal" and not which: by halves.
	u.Nameless = true
	refused, err = b.master.Collect(ctx, 32, genibus.Measured, genibus.Get, ids, 70, func(id byte, data []byte) {
		if data[0] != id {
			t.Errorf("item %d reads %d", id, data[0])
		}
	})
	if err != nil || !bytes.Equal(refused, absent) {
		t.Errorf("by halves: refused %v, %v; want %v", refused, err, absent)
	}
}

func TestALocalPumpTakesOneCommand(t *testing.T) {
	u := unit(32)
	local := byte(0x10)
	mode3 := genitest.Item{Class: genibus.Measured, ID: 83}
	u.Values[mode3] = local
	u.Set = func(it genitest.Item, _ byte) bool {
		if it == (genitest.Item{Class: genibus.Commands, ID: genibus.CmdRemote}) {
			u.Values[mode3] = 0
		}
		return true
	}
	b := newBus(t, u)
	if err := b.master.Command(ctx, 32, 70, genibus.CmdStop); !errors.Is(err, genibus.ErrLocal) {
		t.Errorf("STOP in local: %v", err)
	}
	if err := b.master.Command(ctx, 32, 70, genibus.CmdRemote, genibus.CmdStop); err != nil {
		t.Error(err)
	}
	mode, err := b.master.ReadMode(ctx, 32, 70)
	if err != nil || mode.Local {
		t.Errorf("%+v, %v", mode, err)
	}
	var refused *genibus.Refusal
	if err := b.master.Command(ctx, 32, 70, 99); !errors.As(err, &refused) || refused.ID != 99 {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestAParameterIsWrittenOnlyWhenItDiffers(t *testing.T) {
	u := unit(32)
	writes := 0
	u.Set = func(genitest.Item, byte) bool { writes++; return true }
	b := newBus(t, u)
	for i, want := range []bool{true, false, false} {
		changed, err := b.master.SetParameter(ctx, 32, 70, 47, 200)
		if err != nil || changed != want {
			t.Errorf("%d: changed %v, %v", i, changed, err)
		}
	}
	if writes != 1 {
		t.Errorf("%d writes to the EEPROM", writes)
	}
	if _, err := b.master.SetParameter(ctx, 32, 70, 99, 1); err == nil {
		t.Error("an unknown parameter was set")
	}
}

func TestSetPoints(t *testing.T) {
	for percent, want := range map[float64]byte{0: 0, 50: 127, 66: 168, 100: 254} {
		if got, err := genibus.PercentReference(percent); err != nil || got != want {
			t.Errorf("%v %%: %d, %v; want %d", percent, got, err, want)
		}
	}
	if _, err := genibus.PercentReference(100.1); err == nil {
		t.Error("100.1 % was taken")
	}
	if got, err := genibus.CurveReference(3, 10); err != nil || got != 63 {
		t.Errorf("curve 3 of 10: %d, %v", got, err)
	}
	want := genibus.Mode{Operation: 2, Control: 1, Night: true, Alarm: true, Local: true, ButtonLocked: true}
	if got := genibus.ParseMode(0x4A, 0x20, 0x18); got != want {
		t.Errorf("%+v; want %+v", got, want)
	}
}
