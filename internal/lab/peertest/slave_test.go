package peertest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
	"penstock/internal/clock"
)

const python = "/usr/bin/python3" // Debian's own, which has Debian's packages

func TestOurMasterTalksToALibmodbusSlave(t *testing.T) {
	slave := compile(t, "slave")
	ours, theirs := cable(t)
	start(t, slave, theirs, "115200")
	talk(t, ours)
}

func TestOurMasterTalksToAPymodbusSlave(t *testing.T) {
	need(t, "python3-pymodbus (with python3-serial and python3-serial-asyncio)", func() error {
		return exec.Command(python, "-c", "import pymodbus.server.async_io, serial, serial_asyncio").Run()
	})
	ours, theirs := cable(t)
	start(t, python, filepath.Join("testdata", "slave.py"), theirs, "115200")
	master := talk(t, ours)
	// libmodbus has no diagnostics.
	if got, err := master.Diagnostic(context.Background(), 1, 0, 0xA537); err != nil || got != 0xA537 {
		t.Errorf("diagnostics, return query data: %04x, %v; want a537", got, err)
	}
}

// talk makes every kind of request to the slave of testdata.
func talk(t *testing.T, port string) *modbus.Master {
	t.Helper()
	ctx := context.Background()
	line := fieldbus.NewLine(port, fieldbus.Mode{Baud: 115200, Parity: fieldbus.EvenParity, StopBits: 1}, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	m := modbus.NewMaster(line)
	// The machine may be busy: nothing here is about time.
	m.SetTiming(1, modbus.Timing{ReplyMin: 2 * time.Second, ReplyMax: 5 * time.Second, Quiet: 20 * time.Millisecond})
	m.SetTiming(2, modbus.Timing{ReplyMax: 100 * time.Millisecond, Quiet: 20 * time.Millisecond})

	read := func(f modbus.Functions, start, count int) []uint16 {
		t.Helper()
		v := make([]uint16, count)
		if _, err := m.Read(ctx, modbus.Request{Address: 1, Functions: f, Start: uint16(start), Count: count, First: 0, Last: 399}, v); err != nil {
			t.Fatalf("reading %d registers from %d: %v", count, start, err)
		}
		return v
	}
	for _, count := range []int{1, 2, 20, 100, 125} {
		for start := 0; start+count <= 400; start += 91 {
			for i, v := range read(modbus.Holding, start, count) {
				if want := uint16(7*(start+i) + 1); v != want {
					t.Errorf("holding register %d of %d from %d is %d; want %d", start+i, count, start, v, want)
				}
			}
			for i, v := range read(modbus.Input, start, count) {
				if want := uint16(5*(start+i) + 3); v != want {
					t.Errorf("input register %d of %d from %d is %d; want %d", start+i, count, start, v, want)
				}
			}
		}
	}

	if err := m.Write(ctx, 1, 10, 0xBEEF); err != nil {
		t.Errorf("function 06: %v", err)
	}
	if err := m.WriteMultiple(ctx, 1, 11, []uint16{1, 2, 0xFFFF}); err != nil {
		t.Errorf("function 16: %v", err)
	}
	if got := read(modbus.Holding, 10, 4); got[0] != 0xBEEF || got[1] != 1 || got[2] != 2 || got[3] != 0xFFFF {
		t.Errorf("read back %04x", got)
	}

	_, err := m.Read(ctx, modbus.Request{Address: 1, Functions: modbus.Holding, Start: 399, Count: 2}, make([]uint16, 2))
	if e := (*modbus.Exception)(nil); !errors.As(err, &e) || e.Code != modbus.IllegalAddress {
		t.Errorf("reading beyond the last register: %v; want exception 02", err)
	}

	c := m.Client(1)
	for _, bits := range []struct {
		name string
		read func(address, quantity uint16) ([]byte, error)
	}{{"01", c.ReadCoils}, {"02", c.ReadDiscreteInputs}} {
		// Bits 0, 3, 6 and 9 of ten.
		if got, err := bits.read(0, 10); err != nil || !bytes.Equal(got, []byte{0x49, 0x02}) {
			t.Errorf("function %s: % x, %v; want 49 02", bits.name, got, err)
		}
	}
	if _, err := c.WriteSingleCoil(1, 0xFF00); err != nil {
		t.Errorf("function 05: %v", err)
	}
	if _, err := c.WriteMultipleCoils(4, 2, []byte{3}); err != nil {
		t.Errorf("function 15: %v", err)
	}
	if got, err := c.ReadCoils(0, 10); err != nil || !bytes.Equal(got, []byte{0x7B, 0x02}) {
		t.Errorf("coils read back: % x, %v; want 7b 02", got, err)
	}
	if got, err := c.ReadWriteMultipleRegisters(20, 2, 20, 1, []byte{0x12, 0x34}); err != nil || !bytes.Equal(got, []byte{0x12, 0x34, 0, 148}) {
		t.Errorf("function 23: % x, %v; want 12 34 00 94", got, err)
	}
	// Last, since libmodbus takes what follows for that device's answer.
	if _, err := m.Read(ctx, modbus.Request{Address: 2, Start: 0, Count: 1}, make([]uint16, 1)); !errors.Is(err, modbus.ErrNoAnswer) {
		t.Errorf("a device that is not there: %v; want %v", err, modbus.ErrNoAnswer)
	}
	return m
}
