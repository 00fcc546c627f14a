package wire

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"penstock/uplink/wire/wirepb"
)

func TestDownComesDown(t *testing.T) {
	epoch := Epoch{1, 2, 3, 4, 5, 6, 7, 8}
	for _, want := range []Down{{}, {Watch: time.Minute}, {NewEpoch: epoch}, {Watch: time.Millisecond, NewEpoch: epoch}} {
		got, err := ParseDown(AppendDown(nil, want))
		if err != nil || got != want {
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
	newer := []byte{0x22, 1, 'x', 0x28, 5, 0x35, 1, 2, 3, 4} // fields 4, 5 and 6
	if d, err := ParseDown(newer); err != nil || d != (Down{}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func FuzzDown(f *testing.F) {
	f.Add(AppendDown(nil, Down{Watch: time.Minute, NewEpoch: Epoch{1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDown(b)
		if err != nil {
			return
		}
		if again, err := ParseDown(AppendDown(nil, d)); err != nil || again != d {
			t.Errorf("%+v became %+v, %v", d, again, err)
		}
	})
}
