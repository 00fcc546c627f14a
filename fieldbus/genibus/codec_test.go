package genibus

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomPDU makes a request of random sound APDUs.
func randomPDU(r *rand.Rand, longest int) (pdu []byte) {
	for range r.IntN(4) {
		class := []Class{ProtocolData, Measured, Configuration, Reference, Measured16, Measured32}[r.IntN(6)]
		data := make([]byte, r.IntN(8))
		for i := range data {
			data[i] = byte(r.IntN(256))
		}
		a := APDU{class, []byte{0, 3}[r.IntN(2)], data}
		if class == Reference && r.IntN(2) == 0 {
			a = APDU{class, byte(Set), append(data, data...)}
		}
		if len(a.Append(pdu)) > longest {
			break
		}
		pdu = a.Append(pdu)
	}
	return pdu
}

// randomReply makes a reply that a device could give.
func randomReply(r *rand.Rand, request []byte) (pdu []byte) {
	for {
		a, rest, ok, _ := Next(request)
		if !ok {
			return pdu
		}
		request = rest
		out := APDU{Class: a.Class}
		switch {
		case r.IntN(8) == 0 && len(a.Data) > 0:
			out.Code, out.Data = byte(UnknownID), a.Data[:1]
		case r.IntN(8) == 0:
			out.Code = byte(UnknownClass)
		case a.Operation() == Info:
			for range a.Data {
				out.Data = randomMeaning(r).Append(out.Data)
			}
		case a.Operation() == Get:
			out.Data = make([]byte, a.Class.width()*len(a.Data))
			for i := range out.Data {
				out.Data[i] = byte(r.IntN(256))
			}
		}
		pdu = out.Append(pdu)
	}
}

func randomMeaning(r *rand.Rand) Meaning {
	m := Meaning{Format: Format(r.IntN(4)), AllValid: r.IntN(2) == 0, LowByte: r.IntN(4) == 0, Access: byte(r.IntN(4)), Unit: NoUnit}
	if m.Format >= Scaled && !m.LowByte {
		m.Unit, m.Negative = byte(r.IntN(128)), r.IntN(2) == 0
		m.Zero, m.Range = r.IntN(256), r.IntN(256)
		if m.Format == Extended {
			m.Zero, m.Range = r.IntN(1<<16), 0
		}
	}
	return m
}

func TestWhatIsBuiltIsDecodedAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		request := randomPDU(r, MaxPDU)
		sent := Telegram{[]Start{DataRequest, DataMessage}[r.IntN(2)], byte(r.IntN(256)), byte(r.IntN(256)), request}
		got := decodeOne(t, sent.Append(nil))
		if got.Start != sent.Start || got.To != sent.To || got.From != sent.From || !bytes.Equal(got.PDU, sent.PDU) {
			t.Fatalf("sent %+v, decoded %+v", sent, got)
		}
		reply := randomReply(r, request)
		if err := Match(request, reply); err != nil {
			t.Fatalf("% X does not match % X: %v", reply, request, err)
		}
		if size := ReplySize(request); len(reply) > size {
			t.Fatalf("a reply of %d bytes to % X; at most %d were expected", len(reply), request, size)
		}
		m := randomMeaning(r)
		if again, rest, err := ParseInfo(m.Append(nil)); err != nil || len(rest) != 0 || again != m {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	}
}

func TestTelegramsAreFoundInAnyStream(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var stream []byte
		var want []Telegram
		for range 20 {
			if r.IntN(3) == 0 { // noise that begins no telegram
				for range r.IntN(5) {
					stream = append(stream, byte(r.IntN(0x20)))
				}
			}
			tg := Telegram{DataReply, byte(r.IntN(256)), byte(r.IntN(256)), randomPDU(r, 64)}
			want, stream = append(want, tg), tg.Append(stream)
		}
		var d Decoder
		for len(stream) > 0 {
			n := min(1+r.IntN(40), len(stream))
			if d.Feed(stream[:n]) != n {
				t.Fatal("no room although everything was taken out")
			}
			stream = stream[n:]
			for {
				got, ok := d.Next()
				if !ok {
					break
				}
				if got.To != want[0].To || !bytes.Equal(got.PDU, want[0].PDU) {
					t.Fatalf("got %+v; want %+v", got, want[0])
				}
				want = want[1:]
			}
		}
		if len(want) > 0 {
			t.Fatalf("%d telegrams were not found", len(want))
		}
	}
}

func TestMalformedTelegramsAreCountedByKindAndGiveNothing(t *testing.T) {
	sound := Telegram{DataReply, 1, 32, AppendGet(nil, Measured, 1, 2)}.Append(nil)
	bad := bytes.Clone(sound)
	bad[5] ^= 0x40 // the count of data bytes
	for name, tc := range map[string]struct {
		bytes []byte
		want  Malformed
	}{
		"noise":                  {[]byte{1, 2, 3}, Malformed{Noise: 3}},
		"length below two":       {[]byte{0x24, 1, 0x10}, Malformed{Length: 1, Noise: 2}},
		"wrong checksum":         {bad, Malformed{Checksum: 1, Noise: uint64(len(bad) - 1)}},
		"cut":                    {sound[:6], Malformed{Cut: 1, Noise: 5}},
		"an APDU beyond the end": {Telegram{DataReply, 1, 32, []byte{2, 5, 1}}.Append(nil), Malformed{PDU: 1}},
		"half an APDU head":      {Telegram{DataReply, 1, 32, []byte{2}}.Append(nil), Malformed{PDU: 1}},
		"half a head after a request for service": {Telegram{DataReply, 1, 32, []byte{0x80, 2}}.Append(nil), Malformed{PDU: 1}},
		"a class above fifteen":                   {Telegram{DataReply, 1, 32, []byte{0x12, 0}}.Append(nil), Malformed{PDU: 1}},
		"a start byte at the end":                 {[]byte{0x24}, Malformed{Cut: 1}},
	} {
		var d Decoder
		d.Feed(tc.bytes)
		for {
			if got, ok := d.Next(); ok {
				t.Errorf("%s: decoded %+v", name, got)
			}
			if !d.Silence() {
				break
			}
		}
		if d.Malformed != tc.want {
			t.Errorf("%s: counted %+v; want %+v", name, d.Malformed, tc.want)
		}
		d.Feed(sound)
		if got, ok := d.Next(); !ok || got.From != 32 {
			t.Errorf("%s: the telegram after it was lost", name)
		}
	}
}

func TestATelegramBehindABrokenOneIsFoundAfterSilence(t *testing.T) {
	sound := Telegram{DataReply, 1, 32, nil}.Append(nil)
	var d Decoder
	d.Feed(append([]byte{0x27, 0xF0}, sound...)) // a request of 244 bytes that never ends
	if _, ok := d.Next(); ok {
		t.Fatal("found before the silence")
	}
	if !d.Silence() {
		t.Fatal("nothing had begun")
	}
	if got, ok := d.Next(); !ok || got.From != 32 {
		t.Error("the sound telegram was not found")
	}
}

func TestARequestForServiceByteMovesNoValue(t *testing.T) {
	apdus := [][]byte{
		APDU{Measured, byte(OK), []byte{0x80, 2, 0x8F}}.Append(nil), // values that look like one
		APDU{Configuration, byte(UnknownID), []byte{46}}.Append(nil),
		APDU{Measured16, byte(OK), []byte{1, 2}}.Append(nil),
	}
	plain := bytes.Join(apdus, nil)
	for _, service := range [][]byte{{0x80}, {0x81}, {0x8F}, {0x80, 0x83}} {
		for place := range len(apdus) + 1 {
			with := slices.Concat(bytes.Join(apdus[:place], nil), service, bytes.Join(apdus[place:], nil))
			var d Decoder
			d.Feed(append(Telegram{DataReply, 1, 32, with}.Append(nil), Telegram{DataReply, 1, 33, plain}.Append(nil)...))
			for _, from := range []byte{32, 33} {
				got, ok := d.Next()
				if !ok || got.From != from || !bytes.Equal(got.PDU, plain) {
					t.Errorf("% X before APDU %d: device %d: got %+v, %v; want the PDU % X", service, place+1, from, got, ok, plain)
				}
			}
		}
	}
}

func TestAReplyOfAnotherShapeIsNoAnswer(t *testing.T) {
	request := AppendGet(AppendGet(nil, Measured, 1, 2), Configuration, 46)
	get := func(class Class, data ...byte) []byte { return APDU{class, byte(OK), data}.Append(nil) }
	for name, reply := range map[string][]byte{
		"a value less":         append(get(Measured, 9), get(Configuration, 32)...),
		"a value more":         append(get(Measured, 9, 8, 7), get(Configuration, 32)...),
		"an APDU less":         get(Measured, 9, 8),
		"an APDU more":         append(append(get(Measured, 9, 8), get(Configuration, 32)...), get(Measured)...),
		"the wrong order":      append(get(Configuration, 32), get(Measured, 9, 8)...),
		"an ID nobody asked":   append(APDU{Measured, byte(UnknownID), []byte{3}}.Append(nil), get(Configuration, 32)...),
		"a class with an ID":   append(APDU{Measured, byte(UnknownClass), []byte{1}}.Append(nil), get(Configuration, 32)...),
		"two IDs where one is": append(APDU{Measured, byte(Illegal), []byte{1, 2}}.Append(nil), get(Configuration, 32)...),
		"nothing":              nil,
	} {
		if Match(request, reply) == nil {
			t.Errorf("%s passes for an answer", name)
		}
	}
}

func TestRequestsArePackedWithTheirAnswerInMind(t *testing.T) {
	ids := make([]byte, 63)
	for i := range ids {
		ids[i] = byte(i)
	}
	for _, tc := range []struct {
		pdu  []byte
		fits bool
	}{
		{nil, true},
		{AppendGet(nil, Measured, ids[:62]...), true},
		{AppendGet(nil, Measured, ids[:63]...), false},  // a telegram of 71 bytes
		{AppendInfo(nil, Measured, ids[:15]...), true},  // 2 + 60 bytes come back
		{AppendInfo(nil, Measured, ids[:16]...), false}, // 2 + 64
		{AppendGet(nil, Measured32, ids[:15]...), true},
		{AppendGet(nil, Measured32, ids[:16]...), false},
		{AppendGet(nil, Text, 9), true},
		{AppendGet(AppendGet(nil, Text, 9), Text, 1), false},
		{[]byte{2}, false},
	} {
		if got := Fits(tc.pdu, SmallestBuffer); got != tc.fits {
			t.Errorf("% X fits 70 bytes: %v; want %v", tc.pdu, got, tc.fits)
		}
	}
}

// The worked values are those of the manuals named beside them.
func TestWorkedValues(t *testing.T) {
	scaled := func(unit byte, zero, rng int) Meaning {
		return Meaning{Format: Scaled, Unit: unit, Zero: zero, Range: rng}
	}
	extended := func(unit byte, zero int) Meaning { return Meaning{Format: Extended, Unit: unit, Zero: zero} }
	negative := extended(51, 3<<8|245)
	negative.Negative = true
	for name, tc := range map[string]struct {
		m     Meaning
		bytes []byte
		want  float64
		unit  string
	}{
		"motor temperature":     {scaled(21, 10, 90), []byte{163}, 67.756, "Cel"},
		"power, 16 bit":         {scaled(44, 0, 120), []byte{16, 214}, 7.95399, "kW"},
		"level, negative zero":  {negative, []byte{18, 12}, 3.607, "bar"},
		"power-on time, 24 bit": {extended(36, 0), []byte{7, 108, 32}, 972864, "min"},
		"dosing flow, 32 bit":   {extended(69, 0), []byte{23, 216, 42, 214}, 40004271, "mL/h"},
		"head":                  {scaled(25, 0, 12), []byte{0x7B}, 5.811, "m"},
		"flow":                  {scaled(23, 0, 32), []byte{0x23}, 4.409, "m3/h"},
		"power, 8 bit":          {scaled(9, 0, 40), []byte{0xE9}, 3669.3, "W"},
		"speed":                 {scaled(19, 0, 36), []byte{0xA5}, 2338.58, "/min"},
		"energy":                {scaled(47, 0, 254), []byte{0x0C, 0xE7}, 129.02, "MW.h"},
		"MP 204 voltage":        {extended(3, 0), []byte{0x0F, 0xA0}, 400, "V"},
		"MP 204 current":        {extended(1, 0), []byte{0x03, 0x09}, 77.7, "A"},
		"MP 204 power":          {extended(7, 0), []byte{0, 0, 0xD2, 0x48}, 53832, "W"},
		"MP 204 cos phi, 8 bit": {extended(77, 0), []byte{0x61}, 0.97, "1"},
		"all values valid":      {Meaning{Format: Scaled, AllValid: true, Unit: 30, Range: 100}, []byte{0xFF}, 100, "%"},
	} {
		s, err := tc.m.Scale(len(tc.bytes), Later)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		raw, ok := tc.m.Value(tc.bytes)
		if !ok {
			t.Errorf("%s: not available", name)
		}
		got := s.Float(raw)
		if diff := got/tc.want - 1; diff > 2e-4 || diff < -2e-4 || s.Unit.Symbol != tc.unit {
			t.Errorf("%s: %v %s; want %v %s", name, got, s.Unit.Symbol, tc.want, tc.unit)
		}
	}
}

func TestScalesAreExact(t *testing.T) {
	m := Meaning{Format: Scaled, Unit: 25, Zero: 1, Negative: true, Range: 12}
	s, err := m.Scale(1, Later)
	if err != nil {
		t.Fatal(err)
	}
	// (-1 + 127*12/254) m is 5 m, to the last digit.
	if got := s.Exact(127); got.Cmp(big.NewRat(5, 1)) != 0 {
		t.Errorf("got %v; want 5", got)
	}
	if s.Num != 6 || s.Add != -127 || s.Den != 127 {
		t.Errorf("scale %d, %d, %d; want 6, -127, 127", s.Num, s.Add, s.Den)
	}
}

func TestNotAvailableIsTheHighByteAlone(t *testing.T) {
	plain, all := Meaning{Format: Extended, Unit: 3}, Meaning{Format: Extended, Unit: 3, AllValid: true}
	for _, tc := range []struct {
		m     Meaning
		bytes []byte
		want  bool
	}{
		{plain, []byte{0xFF}, false}, {plain, []byte{0xFE}, true},
		{plain, []byte{0xFF, 0}, false}, {plain, []byte{0, 0xFF}, true}, {plain, []byte{0xFE, 0xFF, 0xFF, 0xFF}, true},
		{all, []byte{0xFF}, true}, {all, []byte{0xFF, 0xFF}, true}, {plain, nil, false},
	} {
		if _, got := tc.m.Value(tc.bytes); got != tc.want {
			t.Errorf("% X, VI %v: available %v; want %v", tc.bytes, tc.m.AllValid, got, tc.want)
		}
	}
}

func TestUnitsThatWereRedefinedAreNotGuessed(t *testing.T) {
	for index := byte(10); index <= 15; index++ {
		if u, ok := First.Lookup(index); ok {
			t.Errorf("unit %d of a first device is %+v", index, u)
		}
		if _, ok := Later.Lookup(index); !ok {
			t.Errorf("unit %d of a later device is unknown", index)
		}
	}
	if u, _ := First.Lookup(21); u.Symbol != "Cel" {
		t.Errorf("unit 21 is %+v", u)
	}
	for _, index := range []byte{0, 115, NoUnit} {
		if _, ok := Later.Lookup(index); ok {
			t.Errorf("unit %d is not assigned", index)
		}
	}
	if _, err := (Meaning{Format: Scaled, Unit: NoUnit, Range: 1}).Scale(1, Later); err == nil {
		t.Error("an item without a unit has a scale")
	}
	if _, err := (Meaning{Format: Scaled, Unit: 1, Range: 1}).Scale(3, Later); err == nil {
		t.Error("zero and range have a meaning for 24 bits")
	}
}
