package lab

import (
	"encoding/json"
	"os"
	"testing"
)

func checkSummary(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]float64
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatalf("%v: the output is not one object of numbers:\n%s", err, text)
	}
	for _, key := range []string{"readings_stored", "readings_served", "wrong_values", "missing_values", "gateway_listening_sockets", "seconds_to_first_reading"} {
		if _, ok := fields[key]; !ok {
			t.Errorf("the summary has no %q: %s", key, text)
		}
	}
	if fields["readings_stored"] == 0 || fields["wrong_values"] != 0 || fields["missing_values"] != 0 || fields["gateway_listening_sockets"] != 0 {
		t.Errorf("summary %s", text)
	}
}

func TestASummaryThatBrokeAPromiseIsNotOK(t *testing.T) {
	good := Summary{ReadingsStored: 1, ReadingsServed: 1}
	if !good.OK() {
		t.Error("a good run is not OK")
	}
	for _, bad := range []Summary{{}, {ReadingsStored: 1, WrongValues: 1}, {ReadingsStored: 1, MissingValues: 1}, {ReadingsStored: 1, GatewayListeningSockets: 1}} {
		if bad.OK() {
			t.Errorf("%+v is OK", bad)
		}
	}
}
