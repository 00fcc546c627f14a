package gateway

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/profile"
	"penstock/fieldbus/pumpsim/wire"
	"penstock/internal/clock"
)

func TestAScanSaysWhatAUnitIsAndHowThatIsKnown(t *testing.T) {
	for _, tc := range []struct {
		id      genibus.Identity
		verbose bool
		want    []string
		not     string
	}{
		{genibus.Identity{Address: 32, Family: 1, Type: 10, Version: 2, Name: "MAGNA3", Serial: "123"}, false,
			[]string{" 32  family 1, type 10, version 2 (geni-magna3: MAGNA3 circulator) \"MAGNA3\" \"123\""}, "class 2"},
		{genibus.Identity{Address: 40, Family: 7, Type: 1, Buffer: 70}, true,
			[]string{"geni-mp204", "buffer 70 bytes", "class 2, item 65  A: from the maker's document", "command reset_alarm"}, "uncertain"},
		{genibus.Identity{Address: 41, Family: 1, Type: 10}, true, []string{"C: from a third party", "uncertain: OpenEMS"}, "B:"},
		{genibus.Identity{Address: 42, Family: 99, Type: 3}, false, []string{"family 99, type 3", "no family of ours; geni-generic"}, "class 2"},
	} {
		var b strings.Builder
		showUnit(&b, profile.Builtin(), tc.id, tc.verbose)
		for _, want := range tc.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in:\n%s", want, &b)
			}
		}
		if strings.Contains(b.String(), tc.not) {
			t.Errorf("%q is in:\n%s", tc.not, &b)
		}
	}
}

// geniLine is the far end of a port: units that answer at wire time. One that
// was addressed answers no connection request.
type geniLine struct {
	units  []*genitest.Unit
	dec    genibus.Decoder
	coming []geniArrival
}

type geniArrival struct {
	at    time.Time
	bytes []byte
}

func (l *geniLine) Hear(b []byte, at time.Time, _ int) {
	l.dec.Feed(b)
	for {
		t, ok := l.dec.Next()
		if !ok {
			return
		}
		for _, u := range l.units {
			if t.To == genibus.ConnectionRequest && u.Addressed > 0 {
				continue
			}
			if reply, ok := u.Answer(t); ok {
				end := at.Add(genibus.Wire(t.Size()+reply.Size()) + 5*time.Millisecond)
				l.coming = append(l.coming, geniArrival{end, reply.Append(nil)})
			}
		}
	}
}

func (l *geniLine) Due(now time.Time, send func([]byte) time.Time) time.Duration {
	for len(l.coming) > 0 && !l.coming[0].at.After(now) {
		send(l.coming[0].bytes)
		l.coming = l.coming[1:]
	}
	return 0
}

func (l *geniLine) Next() time.Time {
	if len(l.coming) == 0 {
		return time.Time{}
	}
	return l.coming[0].at
}

func (l *geniLine) Idle() bool { return len(l.coming) == 0 }

// until ends a context when everything has been written that it waits for.
type until struct {
	strings.Builder
	want []string
	end  func()
}

func (u *until) Write(b []byte) (int, error) {
	n, err := u.Builder.Write(b)
	for _, w := range u.want {
		if !strings.Contains(u.String(), w) {
			return n, err
		}
	}
	u.end()
	return n, err
}

// TestAGenibusIsScannedOnARealPort: one unit at an address that is asked first,
// one that only a connection request finds.
func TestAGenibusIsScannedOnARealPort(t *testing.T) {
	port, err := wire.Open("", clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	line := &geniLine{units: []*genitest.Unit{genitest.New(32, 1, 10, 1), genitest.New(45, 7, 1, 0)}}
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- port.Serve(serving, line) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &until{want: []string{" 32  family 1, type 10", " 45  family 7, type 1, version 0 (geni-mp204"}, end: cancel}
	err = ScanGenibus(ctx, LineOptions{Port: port.Path(), Families: profile.Builtin()}, false, out)
	stop()
	if serveErr := <-served; err != nil || serveErr != nil {
		t.Fatal(err, serveErr)
	}
	if !strings.Contains(out.String(), "2 found") {
		t.Errorf("the scan says:\n%s", out)
	}
}
