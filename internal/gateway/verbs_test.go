package gateway

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
)

// lineInMemory is a line in memory on which each request is answered by play.
func lineInMemory(t *testing.T, play func(request []byte) (heard [][]byte)) (*fieldbus.Line, *modbus.Master) {
	t.Helper()
	clk := linetest.NewClock()
	port := linetest.NewPort(clk)
	port.OnWrite = func(b []byte, at time.Time) {
		for i, frame := range play(b) {
			port.Deliver(at.Add(10*time.Millisecond+time.Duration(i)*20*time.Millisecond), frame...)
		}
	}
	line := port.Line(fieldbus.Mode{Baud: 19200, Parity: fieldbus.EvenParity, StopBits: 1})
	return line, modbus.NewMaster(line)
}

// seal puts a frame's CRC-16 behind it (MODBUS over Serial Line V1.02, 6.2.2).
func seal(b []byte) []byte {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			low := crc & 1
			if crc >>= 1; low == 1 {
				crc ^= 0xA001
			}
		}
	}
	return append(b, byte(crc), byte(crc>>8))
}

func TestAnEchoWithNobodyOnTheLineIsNoWrite(t *testing.T) {
	line, master := lineInMemory(t, func(request []byte) [][]byte { return [][]byte{request} })
	var out bytes.Buffer
	err := writeRegister(t.Context(), line, master, 1, 104, 5000, &out)
	if err == nil || !strings.HasPrefix(err.Error(), "nothing was written: device 1: no answer") || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestAWriteIsDoneOnceItIsReadBack(t *testing.T) {
	for name, echoing := range map[string]bool{"plain line": false, "line with an echo": true} {
		value := []byte{0, 0}
		line, master := lineInMemory(t, func(q []byte) (heard [][]byte) {
			if echoing {
				heard = append(heard, bytes.Clone(q))
			}
			answer := bytes.Clone(q[:6])
			if q[1] == 6 {
				value = bytes.Clone(q[4:6])
			} else {
				answer = append([]byte{q[0], q[1], 2}, value...)
			}
			return append(heard, seal(answer))
		})
		var out bytes.Buffer
		if err := writeRegister(t.Context(), line, master, 1, 104, 5000, &out); err != nil || out.String() != "00104   5000  written and read back\n" {
			t.Errorf("%s: %v, %q", name, err, out.String())
		}
	}
}

func TestReadTakesCoilsAndInputs(t *testing.T) {
	for function := 1; function <= 2; function++ {
		line, master := lineInMemory(t, func(q []byte) [][]byte {
			if int(q[1]) != function {
				return nil
			}
			return [][]byte{seal([]byte{q[0], q[1], 1, 0b101})}
		})
		var bits [3]uint16
		if err := read(t.Context(), line, master, 1, function, 5, bits[:]); err != nil || bits != [3]uint16{1, 0, 1} {
			t.Errorf("function %d: %v, %v", function, err, bits)
		}
	}
}

func TestReadTakesFunction4WhereTheDeviceDoesNotKnow3(t *testing.T) {
	line, master := lineInMemory(t, func(q []byte) [][]byte {
		if q[1] != 4 {
			return [][]byte{seal([]byte{q[0], q[1] | 0x80, 1})}
		}
		return [][]byte{seal([]byte{q[0], 4, 2, 0x12, 0x34})}
	})
	var values [1]uint16
	if err := read(t.Context(), line, master, 1, 0, 5, values[:]); err != nil || values[0] != 0x1234 {
		t.Errorf("%v, %#x", err, values)
	}
	if err := read(t.Context(), line, master, 1, 3, 5, values[:]); err == nil {
		t.Error("function 3 was asked for, and 4 used")
	}
}
