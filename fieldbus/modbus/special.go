package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"penstock/fieldbus"
)

// Turnaround is how long the line is left alone after a broadcast, so that every
// device has dealt with it (serial line guide, chapter 2.4.1: 100 to 200 ms).
const Turnaround = 200 * time.Millisecond

// Diagnostic sends function 08, which goburrow's client does not know, and
// returns the data field of the answer. Sub-function 0 asks the device to send
// data back as it came. Errors are those of Read.
func (m *Master) Diagnostic(ctx context.Context, address byte, sub, data uint16) (uint16, error) {
	if address < 1 || address > 247 {
		return 0, fmt.Errorf("modbus: device address %d: use 1 to 247", address)
	}
	field := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sub), data)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	adu, err := encode(address, diagnostics, field)
	if err != nil {
		return 0, err
	}
	reply, err := m.t.Send(adu)
	if err != nil {
		return 0, err
	}
	if reply[1]&refused != 0 {
		return 0, &Exception{Address: address, Function: diagnostics, Code: reply[2]}
	}
	return binary.BigEndian.Uint16(reply[4:]), nil
}

// Broadcast writes consecutive registers of every device on the line at once,
// with function 06 for one and 16 for more. Nothing answers; the line is left
// alone for Turnaround afterwards.
func (m *Master) Broadcast(ctx context.Context, register uint16, values ...uint16) error {
	if len(values) < 1 || len(values) > 123 {
		return fmt.Errorf("modbus: a broadcast of %d registers: use 1 to 123", len(values))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	function := byte(writeRegister)
	data := binary.BigEndian.AppendUint16(nil, register)
	if len(values) > 1 {
		function = writeRegisters
		data = binary.BigEndian.AppendUint16(data, uint16(len(values)))
		data = append(data, byte(2*len(values)))
	}
	for _, v := range values {
		data = binary.BigEndian.AppendUint16(data, v)
	}
	adu, err := encode(0, function, data)
	if err != nil {
		return err
	}
	return m.t.broadcast(adu)
}

// encode makes a frame with goburrow's packager.
func encode(address, function byte, data []byte) ([]byte, error) {
	packager := gomodbus.NewRTUClientHandler("")
	packager.SlaveId = address
	return packager.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: data})
}

// broadcast sends a frame that nothing answers. What comes during the
// turnaround is not for us: an echo, or a device that should not have answered.
func (t *Transporter) broadcast(adu []byte) error {
	clk, count := t.line.Clock(), t.line.Counters()
	began := clk.Now()
	defer func() { count.AddBusy(clk.Now().Sub(began)) }()
	if err := t.quiet(); err != nil {
		return err
	}
	sent, err := t.line.Write(adu)
	if err != nil {
		return fmt.Errorf("sending to every device: %w", err)
	}
	count.Requests.Add(1)
	end := sent.Add(t.line.Mode().Wire(len(adu)) + Turnaround)
	for t.n = 0; ; {
		k, err := t.line.Read(t.buf[t.n:], end)
		t.n += k
		if errors.Is(err, fieldbus.ErrTimeout) {
			break
		}
		if err != nil {
			return fmt.Errorf("waiting after a broadcast: %w", err)
		}
		if t.n == len(t.buf) {
			t.sift(t.buf[:t.n], adu)
			t.n = 0
		}
	}
	t.sift(t.buf[:t.n], adu)
	return nil
}
