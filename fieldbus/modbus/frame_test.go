package modbus

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
)

func pack(t testing.TB, address, function byte, data ...byte) []byte {
	t.Helper()
	p := gomodbus.NewRTUClientHandler("")
	p.SlaveId = address
	adu, err := p.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return adu
}

func TestAnswerLengthFollowsTheFunction(t *testing.T) {
	for _, c := range []struct {
		function byte
		data     []byte
		want     int
	}{
		{1, []byte{0, 0, 0, 9}, 7},
		{2, []byte{0, 0, 0, 8}, 6},
		{3, []byte{0, 0, 0, 125}, 255},
		{4, []byte{0, 0, 0, 1}, 7},
		{5, []byte{0, 0, 0xFF, 0}, 8},
		{6, []byte{0, 0, 1, 2}, 8},
		{8, []byte{0, 0, 1, 2}, 8},
		{15, []byte{0, 0, 0, 8, 1, 0xFF}, 8},
		{16, []byte{0, 0, 0, 1, 2, 0, 1}, 8},
		{22, []byte{0, 0, 1, 2, 3, 4}, 10},
		{23, []byte{0, 0, 0, 3, 0, 9, 0, 1, 2, 0, 1}, 11},
	} {
		got, err := expect(pack(t, 9, c.function, c.data...))
		if err != nil || got.size != c.want {
			t.Errorf("function %d: %d bytes, %v; want %d", c.function, got.size, err, c.want)
		}
	}
}

func TestRequestsWithoutAKnownAnswerAreRefused(t *testing.T) {
	for _, adu := range [][]byte{
		pack(t, 9, 24, 0, 1), pack(t, 9, 3, 0, 1), pack(t, 9, 6), pack(t, 9, 3, 0, 0, 0, 127), {1, 3}, nil,
	} {
		if a, err := expect(adu); err == nil {
			t.Errorf("% x: an answer of %d bytes is expected", adu, a.size)
		}
	}
}

// The reader is given whatever bytes the fuzzer likes, in pieces, and with the
// true answer somewhere among them.
func FuzzReaderFindsTheAnswerAndNothingElse(f *testing.F) {
	request := pack(f, 17, 3, 0, 0x6B, 0, 3)
	answer := []byte{17, 3, 6, 2, 0x2B, 0, 0, 0, 0x64}
	answer = binary.LittleEndian.AppendUint16(answer, crc(answer))
	f.Add([]byte{}, []byte{}, uint8(1))
	f.Add(request, []byte{17, 0x83, 2}, uint8(3))                      // an echo
	f.Add([]byte{17, 3, 6, 1}, []byte{17}, uint8(200))                 // a beginning
	f.Add(append([]byte{}, answer[:10]...), answer[3:], uint8(16))     // cut
	f.Add(pack(f, 33, 4, 2, 1, 2), pack(f, 17, 3, 2, 1, 2), uint8(16)) // foreign, stale
	f.Fuzz(func(t *testing.T, before, after []byte, piece uint8) {
		if len(before)+len(after) > 700 {
			return
		}
		clk := linetest.NewClock()
		port := linetest.NewPort(clk)
		stream := append(append(append([]byte{}, before...), answer...), after...)
		port.OnWrite = func([]byte, time.Time) {
			for at := clk.Now(); len(stream) > 0; at = at.Add(time.Millisecond) {
				n := min(int(piece)%64+1, len(stream))
				port.Deliver(at, stream[:n]...)
				stream = stream[n:]
			}
		}
		got, err := NewTransporter(port.Line(fieldbus.Default)).Send(request)
		if err != nil {
			if len(before) == 0 {
				t.Fatalf("an answer that came first was not found: %v", err)
			}
			return // a damaged answer before it may have ended the wait
		}
		if !sound(got) || got[0] != 17 || got[1]&^refused != 3 {
			t.Fatalf("% x was taken for an answer", got)
		}
		if got[1] == 3 && !bytes.Equal(got, answer) && !bytes.Contains(before, got) {
			t.Fatalf("% x was taken for an answer", got)
		}
	})
}

func TestOurPartOfATransactionAllocatesNothing(t *testing.T) {
	clk := linetest.NewClock()
	requests := [2][]byte{pack(t, 17, 3, 0, 0x6B, 0, 3), pack(t, 17, 4, 0, 0x6B, 0, 3)}
	var replies [2][]byte
	for i := range replies {
		b := []byte{17, byte(3 + i), 6, 2, 0x2B, 0, 0, 0, 0x64}
		replies[i] = binary.LittleEndian.AppendUint16(b, crc(b))
	}
	quick := &instant{clk: clk}
	line := fieldbus.NewLine("fake", fieldbus.Default, func(string, fieldbus.Mode) (fieldbus.Port, error) { return quick, nil }, clk)
	if err := line.Open(); err != nil {
		t.Fatal(err)
	}
	tr := NewTransporter(line)
	n := 0
	allocs := testing.AllocsPerRun(1000, func() {
		quick.reply = replies[n&1]
		if _, err := tr.Send(requests[n&1]); err != nil {
			t.Fatal(err)
		}
		n++
	})
	if allocs != 0 {
		t.Errorf("%v allocations for each transaction", allocs)
	}
}

// instant is a port that answers every write with one reply, allocating
// nothing.
type instant struct {
	clk     *linetest.Clock
	timeout time.Duration
	reply   []byte
	ready   []byte
}

func (p *instant) Read(b []byte) (int, error) {
	if len(p.ready) == 0 {
		p.clk.Advance(p.timeout)
		return 0, nil
	}
	p.clk.Advance(20 * time.Millisecond)
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}
func (p *instant) Write(b []byte) (int, error)          { p.ready = p.reply; return len(b), nil }
func (p *instant) SetReadTimeout(d time.Duration) error { p.timeout = d; return nil }
func (p *instant) ResetInputBuffer() error              { return nil }
func (p *instant) Drain() error                         { return nil }
func (p *instant) Close() error                         { return nil }
