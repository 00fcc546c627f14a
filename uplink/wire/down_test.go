package wire

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"penstock/internal/telemetry"
	"penstock/uplink/wire/wirepb"
)

func TestDownComesDown(t *testing.T) {
	epoch := Epoch{1, 2, 3, 4, 5, 6, 7, 8}
	command := &telemetry.Command{ID: telemetry.CommandID{7, 15: 9}, Pump: "bus1-1", Name: "setpoint", Value: "55 %", Expires: time.UnixMilli(1780000000123).UTC(), Owner: 3}
	for _, want := range []Down{{}, {Watch: time.Minute}, {NewEpoch: epoch}, {Watch: time.Millisecond, NewEpoch: epoch}, {Command: command}, {TellCatalogue: true}} {
		got, err := ParseDown(AppendDown(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("want %+v, got %+v, %v", want, got, err)
		}
	}
	other, err := proto.Marshal(&wirepb.Down{Watch: &wirepb.Watch{LeaseMs: 60000}, NewEpoch: &wirepb.NewEpoch{Epoch: epoch[:]}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDown(other); err != nil || got != (Down{Watch: time.Minute, NewEpoch: epoch}) {
		t.Errorf("%+v, %v", got, err)
	}
	other, err = proto.Marshal(&wirepb.Down{TellCatalogue: &wirepb.TellCatalogue{}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDown(other); err != nil || got != (Down{TellCatalogue: true}) {
		t.Errorf("%+v, %v", got, err)
	}
	other, err = proto.Marshal(&wirepb.Down{Command: &wirepb.Command{Id: command.ID[:], Pump: "bus1-1", Name: "setpoint", Value: "55 %", ExpiresMs: 1780000000123, Owner: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDown(other); err != nil || !reflect.DeepEqual(got.Command, command) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestACommandThatCannotBeMeantIsRefused(t *testing.T) {
	id := make([]byte, 16)
	for what, c := range map[string]*wirepb.Command{
		"no id":       {Pump: "bus1-1", Name: "setpoint", ExpiresMs: 1},
		"short id":    {Id: id[:15], Pump: "bus1-1", Name: "setpoint", ExpiresMs: 1},
		"no pump":     {Id: id, Name: "setpoint", ExpiresMs: 1},
		"no name":     {Id: id, Pump: "bus1-1", ExpiresMs: 1},
		"no end":      {Id: id, Pump: "bus1-1", Name: "setpoint"},
		"long value":  {Id: id, Pump: "bus1-1", Name: "setpoint", Value: strings.Repeat("1", 300), ExpiresMs: 1},
		"far too far": {Id: id, Pump: "bus1-1", Name: "setpoint", ExpiresMs: 1 << 62},
	} {
		b, err := proto.Marshal(&wirepb.Down{Command: c})
		if err != nil {
			t.Fatal(err)
		}
		if d, err := ParseDown(b); err == nil {
			t.Errorf("%s: %+v", what, d.Command)
		}
	}
}

func TestALeaseIsBoundedAndGarbageRefused(t *testing.T) {
	if d, err := ParseDown(AppendDown(nil, Down{Watch: 1000 * time.Hour})); err != nil || d.Watch != MaxWatch {
		t.Errorf("%+v, %v", d, err)
	}
	for _, garbage := range []string{"x", "\x0a\x05", "\x12\x03\x0a\x01a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if d, err := ParseDown([]byte(garbage)); err == nil {
			t.Errorf("%q: %+v", garbage, d)
		}
	}
	newer := []byte{0x3a, 1, 'x', 0x28, 5, 0x35, 1, 2, 3, 4} // fields 7, 5 and 6
	if d, err := ParseDown(newer); err != nil || d != (Down{}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func FuzzDown(f *testing.F) {
	f.Add(AppendDown(nil, Down{Watch: time.Minute, NewEpoch: Epoch{1}}))
	f.Add(AppendDown(nil, Down{Command: &telemetry.Command{ID: telemetry.CommandID{1}, Pump: "p", Name: "n", Value: "v", Expires: time.UnixMilli(1)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDown(b)
		if err != nil {
			return
		}
		if again, err := ParseDown(AppendDown(nil, d)); err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%+v became %+v, %v", d, again, err)
		}
	})
}
