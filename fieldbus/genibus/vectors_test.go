package genibus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// vector is a telegram of testdata/vectors.json. Kind "doc" is printed in a
// Grundfos document, "third-party test" stands in a public test suite, and
// "derived" follows from the specification: no device ever sent it.
type vector struct {
	ID, Desc, Hex, CRC, Source, Kind string
}

func (v vector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(v.Hex, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]vector{}
	for _, v := range list {
		all[v.ID] = v
	}
	if len(all) != 22 {
		t.Fatalf("%d vectors; want 22", len(all))
	}
	return all
}

// decodeOne decodes exactly one telegram.
func decodeOne(t testing.TB, b []byte) Telegram {
	t.Helper()
	var d Decoder
	d.Feed(b)
	got, ok := d.Next()
	if !ok || got.Size() != len(b) || d.Malformed.total() != 0 {
		t.Fatalf("% X: decoded %+v, %v; malformed %+v", b, got, ok, d.Malformed)
	}
	got.PDU = bytes.Clone(got.PDU)
	return got
}

func TestEveryPublishedTelegramIsDecodedAndMadeAgain(t *testing.T) {
	for id, v := range vectors(t) {
		b := v.bytes(t)
		got := decodeOne(t, b)
		if again := got.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%s: made again: % X; want % X", id, again, b)
		}
		var pdu []byte
		for rest := got.PDU; ; {
			a, more, ok, err := Next(rest)
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			if !ok {
				break
			}
			pdu, rest = a.Append(pdu), more
		}
		if !bytes.Equal(pdu, got.PDU) {
			t.Errorf("%s: the APDUs made again are % X; want % X", id, pdu, got.PDU)
		}
	}
}

func TestCRCOfTheCheckWord(t *testing.T) {
	if got := CRC([]byte("123456789")); got != 0xD64E {
		t.Errorf("CRC = %#04x; want 0xD64E", got)
	}
}

func TestPublishedRequestsAreBuilt(t *testing.T) {
	for id, want := range map[string]Telegram{
		"S1": {DataRequest, ConnectionRequest, 1, ConnectionPDU()},
		"S3": {DataRequest, 0x20, 1, AppendInfo(nil, Measured, 2, 16, 26)},
		"S5": {DataRequest, 0x20, 1, AppendSet(AppendGet(AppendGet(nil, Measured, 2, 16, 26, 27), Configuration, 4, 5), Commands, 6)},
		"M1": {DataRequest, 0x21, 4, AppendGet(nil, Measured, 32, 34, 37, 39, 81, 152, 153)},
		"M3": {DataRequest, 0x21, 4, AppendSet(AppendSet(nil, Commands, 7, 6, 24), Reference, 1, 0xA8)},
		"R2": {DataRequest, 0x20, 1, AppendSet(nil, Reference, 1, 0xA5)},
		"D5": {DataRequest, FactoryAddress, 1, AppendGet(nil, Text, 9)},
		"D8": {DataRequest, 0x20, 1, nil},
		"D9": {DataMessage, Broadcast, 1, AppendSet(nil, Commands, 5)},
	} {
		if got, v := want.Append(nil), vectors(t)[id]; !bytes.Equal(got, v.bytes(t)) {
			t.Errorf("%s (%s): built % X; want %s", id, v.Source, got, v.Hex)
		}
	}
}

func TestPublishedRepliesMatchTheirRequests(t *testing.T) {
	all := vectors(t)
	for reply, request := range map[string]string{"S2": "S1", "S4": "S3", "S6": "S5", "M2": "M1", "M4": "M3"} {
		q, r := decodeOne(t, all[request].bytes(t)), decodeOne(t, all[reply].bytes(t))
		if err := Match(q.PDU, r.PDU); err != nil {
			t.Errorf("%s to %s: %v", reply, request, err)
		}
		if len(r.PDU) > ReplySize(q.PDU) {
			t.Errorf("%s has %d bytes; at most %d were expected", reply, len(r.PDU), ReplySize(q.PDU))
		}
	}
}

func TestConnectionReplySaysWhoAnswers(t *testing.T) {
	id, err := ParseConnection(decodeOne(t, vectors(t)["S2"].bytes(t)).PDU)
	if err != nil {
		t.Fatal(err)
	}
	want := Connection{Buffer: 70, BusMode: 0x0E, Address: 0x20, Group: 0xF7, Family: 3, Type: 1}
	if id != want {
		t.Errorf("got %+v; want %+v", id, want)
	}
}

func TestEveryRefusalIsUnderstood(t *testing.T) {
	all := vectors(t)
	for id, want := range map[string]struct {
		request []byte
		ack     Ack
		item    int
	}{
		"D1": {AppendGet(nil, 14, 1), UnknownClass, -1},
		"D2": {AppendGet(nil, Measured, 34, 200), UnknownID, 200},
		"D3": {AppendSet(nil, Measured, 34, 1), Illegal, 34},
		"D4": {AppendSet(nil, Measured, 34, 1), Illegal, -1},
	} {
		reply := decodeOne(t, all[id].bytes(t))
		if err := Match(want.request, reply.PDU); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		r := Refused(reply.From, want.request, reply.PDU)
		if r == nil || r.Ack != want.ack || r.ID != want.item || r.From != 0x20 {
			t.Errorf("%s: refused %+v; want ack %d, item %d", id, r, want.ack, want.item)
		}
	}
}

func TestInfoOfTheSpecificationsExample(t *testing.T) {
	reply := decodeOne(t, vectors(t)["S4"].bytes(t))
	a, _, _, err := Next(reply.PDU)
	if err != nil {
		t.Fatal(err)
	}
	rest := a.Data
	for _, want := range []Meaning{
		{Format: Scaled, Unit: 62, Range: 0x39},
		{Format: Scaled, Unit: 21, Range: 0x64},
		{Format: Scaled, Unit: 9, Range: 0xFA},
	} {
		var m Meaning
		if m, rest, err = ParseInfo(rest); err != nil || m != want {
			t.Errorf("got %+v, %v; want %+v", m, err, want)
		}
	}
	if len(rest) != 0 {
		t.Errorf("% X is left over", rest)
	}
}
