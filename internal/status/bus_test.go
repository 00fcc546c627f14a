package status

import (
	"strings"
	"testing"
	"time"
)

func TestABusSaysHowItSpendsItsTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := Bus{Name: "bus1", Port: "/dev/ttyUSB0", Mode: "19200 8E1", OK: true, Since: now,
		Occupancy: 0.153, Planned: 0.161, Dead: 0.04, Stretched: 2,
		Counters: map[string]int64{"requests": 12, "answers": 10, "timeouts": 2, "corrupt": 0},
		Pumps: []Pump{
			{Name: "Boiler", Address: 1, Family: "cim-epump", OK: true, ReplyTime: 21300 * time.Microsecond, Dropped: 3},
			{Name: "Return", Address: 2, Family: "cim-epump", Problem: "no answer: check its power"},
		}}
	var out strings.Builder
	if err := WriteBus(&out, b, now); err != nil {
		t.Fatal(err)
	}
	const want = `bus1 on /dev/ttyUSB0, 19200 8E1
  planned     16.1 %  of the bus's time, when every pump answers
  measured    15.3 %  in the last minute
  unanswered  4.0 %   in the last minute, of 10 % at most
  stretched   × 2.0   the bus has not room for the profiles' periods

  PUMP    ADDRESS  FAMILY     REPLY TIME  LATE CYCLES  STATE
  Boiler  1        cim-epump  21.3 ms     3            answers
  Return  2        cim-epump  -           0            no answer: check its power

  12  requests sent
  10  sound answers
  2   requests without an answer
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	b.OK, b.Problem = false, "the port is gone"
	out.Reset()
	if err := WriteBus(&out, b, now.Add(time.Minute)); err != nil || !strings.Contains(out.String(), "the port is gone, for 1 min") {
		t.Errorf("a bus without its port says %q, %v", &out, err)
	}
}
