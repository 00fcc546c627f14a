package genibus

import "testing"

func FuzzDecoder(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes(f))
	}
	f.Add([]byte{0x24, 0xFF, 0x27, 0x02, 0x20, 0x01, 0x4B, 0xC4})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		found := 0
		for len(b) > 0 || d.Pending() > 0 {
			n := d.Feed(b)
			b = b[n:]
			for {
				tg, ok := d.Next()
				if !ok {
					break
				}
				found += tg.Size()
				again := decodeOne(t, tg.Append(nil))
				if Match(tg.PDU, again.PDU) == nil && len(tg.PDU) > 0 && Refused(0, tg.PDU, again.PDU) != nil {
					continue
				}
				_, _ = ParseConnection(tg.PDU)
				_ = ReplySize(tg.PDU)
			}
			if !d.Silence() && n == 0 {
				break
			}
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte{0x82, 0x3E, 0x00, 0x39, 0x82, 0x15, 0x00, 0x64})
	f.Add([]byte{0xA3, 0xB3, 3, 245})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := ParseInfo(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("nothing was taken")
			}
			again, left, err := ParseInfo(m.Append(nil))
			if err != nil || len(left) != 0 || again != m {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
			for width := 1; width <= 4; width++ {
				if s, err := m.Scale(width, Later); err == nil && s.Den < 1 {
					t.Fatalf("%+v has the scale %+v", m, s)
				}
			}
			b = rest
		}
	})
}
