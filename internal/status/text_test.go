package status_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"penstock/internal/status"
	"penstock/internal/telemetry"
)

func snapshot() status.Snapshot {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return status.Snapshot{
		Time: now, Version: "0.1.0", Started: now.Add(-3 * time.Hour),
		Gateway: status.Gateway{Serial: "PS-0001", Model: "cim550", Board: "rpi"},
		Identity: status.Identity{Issuer: "Penstock Operational Certificates", NotAfter: now.Add(90 * 24 * time.Hour), Days: 90,
			NextAttempt: now.Add(55 * 24 * time.Hour), Why: "renewal begins at 60 % of its life"},
		Trust:  status.Trust{Roots: []string{"Penstock Root", "Penstock Root 2"}, Until: now.Add(29 * 365 * 24 * time.Hour), Version: 3},
		Keys:   status.Keys{Store: "file", Because: "there is no TPM 2.0: open /dev/tpmrm0: no such file or directory"},
		Clock:  status.Clock{Source: "signed", Age: 2 * time.Hour},
		Uplink: status.Uplink{State: "connected", Since: now.Add(-2 * time.Hour), Endpoint: "mqtt.example.com:8883", Session: 4, Acknowledged: 120},
		Queue: status.Queue{Limit: 256 << 20, Lanes: []status.Lane{
			{Name: "urgent"}, {Name: "history", Records: 1, Bytes: 612, Oldest: now.Add(-61 * time.Second), Dropped: 3}}},
		Buses: []status.Bus{
			{Name: "bus1", Port: "/dev/ttyUSB0", Mode: "19200 8E1", OK: true, Since: now.Add(-3 * time.Hour), Occupancy: 0.41,
				Counters: map[string]int64{"frames": 8014, "no_answer": 2, "bad_crc": 0},
				Pumps: []status.Pump{
					{ID: "bus1-1", Name: "Boiler pump", Address: 1, Family: "cim-epump", OK: true, LastGood: now, Values: []status.Value{
						{Point: "head", Unit: "m[H2O]", Scale: telemetry.Scale{Num: 1, Den: 1000}, Raw: 3210, Time: now},
						{Point: "speed", Unit: "/min", Scale: telemetry.Unit, Raw: 2870, Time: now},
						{Point: "control_mode", Unit: "1", Scale: telemetry.Unit, Enum: "control_mode", Raw: 4, Time: now},
						{Point: "flow", Unit: "m3/h", Scale: telemetry.Unit, Quality: telemetry.NotAvailable, Time: now},
						{Point: "power", Unit: "W", Scale: telemetry.Unit, Raw: 55, Quality: telemetry.Stale, Time: now},
					}},
					{ID: "bus1-2", Name: "Cellar", Address: 2, Family: "cim-epump", LastGood: now.Add(-10 * time.Minute)},
				}},
			{Name: "bus2", Port: "/dev/ttyS9", Mode: "9600 8N1", Since: now.Add(-time.Minute), Problem: "there is no such serial port"},
		},
	}
}

func TestOneScreenSaysWhatATechnicianAsks(t *testing.T) {
	var b strings.Builder
	if err := status.Write(&b, snapshot()); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("SHOW") != "" {
		t.Log("\n" + b.String())
	}
	for _, want := range []string{
		"PS-0001, model cim550, board rpi",
		"connected to mqtt.example.com:8883 for 2 h 0 min, 120 records acknowledged",
		"urgent 0 records; history 1 record (612 bytes, oldest 1 min), 3 dropped; room for 256 MB",
		"good until 2027-02-22 (90 days), issued by Penstock Operational Certificates",
		"Penstock Root, Penstock Root 2 until 2055-11-17, signed, version 3",
		"asks for another in 55 days: renewal begins at 60 % of its life",
		"in a file: there is no TPM 2.0: open /dev/tpmrm0",
		"bus1 on /dev/ttyUSB0, 19200 8E1: ok for 3 h 0 min, 41 % busy; frames 8014, no answer 2",
		"bus2 on /dev/ttyS9, 9600 8N1: there is no such serial port, for 1 min",
		"bus1-1  Boiler pump, address 1, cim-epump: answers",
		"3.210 m", "2870 rpm", "constant pressure", "not available", "55 W (stale)",
		"bus1-2  Cellar, address 2, cim-epump: no answer, last good 10 min ago",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, &b)
		}
	}
	if lines := strings.Count(b.String(), "\n"); lines > 24 {
		t.Errorf("%d lines are more than one screen", lines)
	}
}

func TestAnOfflineGatewaySaysSinceWhenAndWhy(t *testing.T) {
	s := snapshot()
	s.Uplink.State, s.Uplink.LastError = "waiting", "endpoint mqtt.example.com:8883: connection refused"
	s.Identity = status.Identity{Issuer: "Penstock", NotAfter: s.Time.Add(-240 * time.Hour), Problem: "expired on 2026-11-14; the factory identity asks for another",
		LastAttempt: s.Time.Add(-40 * time.Minute), LastError: "asking https://auth.example.com: connection refused", NextAttempt: s.Time.Add(3 * time.Minute), Why: "the operational certificate expired on 2026-11-14"}
	s.Trust = status.Trust{Roots: []string{"Penstock Root"}, Fixed: true, Problem: "roots.json: unexpected EOF"}
	s.Buses = nil
	var b strings.Builder
	if err := status.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"waiting for 2 h 0 min", "connection refused", "expired on 2026-11-14; the factory",
		"last attempt to get another 40 min ago: asking https://auth.example.com: connection refused", "asks for another in 3 min: the operational", "no bus is configured",
		"Penstock Root; never replaced: the identity has no tuf-root.json", "roots.json: unexpected EOF"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, &b)
		}
	}
}

func TestAGatewayThatIsNotEnrolledSaysWhatItDoesAboutIt(t *testing.T) {
	s := snapshot()
	s.Identity = status.Identity{NextAttempt: s.Time, Why: "there is no operational certificate yet", Factory: status.Factory{Problem: "valid only from 2026-11-24; is the clock right?"}}
	var b strings.Builder
	if err := status.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"factory identity only: no operational certificate yet", "asking for another now", "factory identity: valid only from 2026-11-24"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, &b)
		}
	}
}

func TestASnapshotSurvivesItsJSON(t *testing.T) {
	want := snapshot()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got status.Snapshot
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAKeyInATPMThatFailsIsShown(t *testing.T) {
	s := snapshot()
	s.Keys = status.Keys{Store: "tpm", Because: "it worked when the first key was made", Problem: "the TPM has not answered for 20s; it may need a power cycle"}
	var b strings.Builder
	if err := status.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"in the TPM\n", "the TPM has not answered for 20s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, &b)
		}
	}
}
