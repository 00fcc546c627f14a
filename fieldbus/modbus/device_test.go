package modbus_test

import (
	"encoding/binary"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
)

// crc is written anew here, bit by bit as in the serial line guide, chapter
// 6.2.2, so that the package's table is checked against it.
func crc(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return c
}

func seal(b ...byte) []byte { return binary.LittleEndian.AppendUint16(b, crc(b)) }

// slave answers on a line in memory, at wire time. What it holds in a register
// is the time at which it was read, so that an answer tells which request it
// answers.
type slave struct {
	t    *testing.T
	clk  *linetest.Clock
	port *linetest.Port
	line *fieldbus.Line

	turnaround time.Duration
	requests   [][]byte
	times      []time.Time
	written    map[uint16]uint16

	// play decides what comes back; nil is the ordinary answer. n counts
	// requests from 0, done is when the request's last bit has passed.
	play func(n int, request []byte, done time.Time)
}

func newSlave(t *testing.T) (*slave, *modbus.Master) {
	t.Helper()
	clk := linetest.NewClock()
	s := &slave{t: t, clk: clk, port: linetest.NewPort(clk), turnaround: 5 * time.Millisecond, written: map[uint16]uint16{}}
	s.line = s.port.Line(fieldbus.Default)
	s.port.OnWrite = func(frame []byte, at time.Time) {
		n := len(s.requests)
		request := append([]byte(nil), frame...)
		s.requests = append(s.requests, request)
		s.times = append(s.times, at)
		done := at.Add(s.line.Mode().Wire(len(frame)))
		if s.play != nil {
			s.play(n, request, done)
			return
		}
		s.answer(request, done, s.turnaround)
	}
	clk.Advance(time.Second)
	return s, modbus.NewMaster(s.line)
}

// answer sends the ordinary answer, its first bit leaving wait after done.
func (s *slave) answer(request []byte, done time.Time, wait time.Duration) {
	s.send(done.Add(wait), s.reply(request, done))
}

// twice plays a device that sends every answer twice, a gap between them.
func (s *slave) twice(gap time.Duration) func(int, []byte, time.Time) {
	return func(_ int, q []byte, done time.Time) {
		reply := s.reply(q, done)
		end := s.send(done.Add(s.turnaround), reply)
		s.send(end.Add(gap), reply)
	}
}

// send sends bytes at wire time, from a time on, one by one.
func (s *slave) send(from time.Time, b []byte) (end time.Time) {
	for i := range b {
		end = from.Add(s.line.Mode().Wire(i + 1))
		s.port.Deliver(end, b[i])
	}
	return end
}

// value is what register r holds at a time: its own number and the time in
// half milliseconds.
func (s *slave) value(r uint16, at time.Time) uint16 {
	return r<<13 | uint16(at.Sub(linetest.Epoch)/(500*time.Microsecond))&0x1FFF
}

func (s *slave) reply(q []byte, at time.Time) []byte {
	switch q[1] {
	case 3, 4:
		start, count := binary.BigEndian.Uint16(q[2:]), binary.BigEndian.Uint16(q[4:])
		b := []byte{q[0], q[1], byte(2 * count)}
		for i := range count {
			b = binary.BigEndian.AppendUint16(b, s.value(start+i, at))
		}
		return seal(b...)
	case 6:
		s.written[binary.BigEndian.Uint16(q[2:])] = binary.BigEndian.Uint16(q[4:])
		return seal(q[:6]...)
	case 16:
		for i := range binary.BigEndian.Uint16(q[4:]) {
			s.written[binary.BigEndian.Uint16(q[2:])+i] = binary.BigEndian.Uint16(q[7+2*i:])
		}
		return seal(q[:6]...)
	case 5, 8, 15:
		return seal(q[:6]...)
	case 1, 2:
		n := (binary.BigEndian.Uint16(q[4:]) + 7) / 8
		return seal(append([]byte{q[0], q[1], byte(n)}, make([]byte, n)...)...)
	case 23:
		n := binary.BigEndian.Uint16(q[4:])
		return seal(append([]byte{q[0], q[1], byte(2 * n)}, make([]byte, 2*n)...)...)
	}
	return seal(q[0], q[1]|0x80, 1)
}

// right tells whether what Read returned is register start's, measured at or
// after the stated time and before now.
func (s *slave) right(start uint16, got []uint16, stated time.Time) bool {
	for i, v := range got {
		r := (start + uint16(i)) & 7
		if v>>13 != r {
			return false
		}
		low := uint16(stated.Sub(linetest.Epoch)/(500*time.Microsecond)) & 0x1FFF
		high := uint16(s.clk.Now().Sub(linetest.Epoch)/(500*time.Microsecond)) & 0x1FFF
		if (v&0x1FFF-low)&0x1FFF > (high-low)&0x1FFF {
			return false
		}
	}
	return true
}
