package poll

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
)

// withService puts a Request-for-Service byte before one of the APDUs of a PDU or
// after the last.
func withService(pdu []byte, rng *rand.Rand) []byte {
	places := []int{0}
	for rest := pdu; len(rest) > 0; {
		_, more, _, _ := genibus.Next(rest)
		rest = more
		places = append(places, len(pdu)-len(rest))
	}
	return slices.Insert(slices.Clone(pdu), places[rng.IntN(len(places))], 0x80)
}

func TestARequestForServiceByteMovesNoValueOfAPump(t *testing.T) {
	shown := func(disturbed bool) map[string]bool {
		r := newGeniRig(t, geniFamily(t, "geni-magna3"), magna3(32))
		if disturbed {
			rng := rand.New(rand.NewPCG(1, 1))
			r.disturb = func(_ *genitest.Unit, reply genibus.Telegram, at time.Time) {
				reply.PDU = withService(reply.PDU, rng)
				r.port.Deliver(at.Add(genibus.Wire(1)), reply.Append(nil)...)
			}
		}
		r.run(30*time.Second, nil)
		all := map[string]bool{}
		for _, x := range r.readings {
			all[r.groups[x.Group].Series[x.Series].Point+": "+r.text(x)] = true
		}
		return all
	}
	plain, with := shown(false), shown(true)
	for v := range with {
		if !plain[v] {
			t.Errorf("read with the byte, and not without: %s", v)
		}
	}
	if len(with) != len(plain) || len(plain) == 0 {
		t.Errorf("%d different values without the byte, %d with", len(plain), len(with))
	}
}
