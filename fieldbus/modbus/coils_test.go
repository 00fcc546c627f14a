package modbus_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/lateness"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/modbus"
)

// TestCoilsAndDiscreteInputsAreBits plays the examples of the application protocol,
// chapters 6.1, 6.2 and 6.5.
func TestCoilsAndDiscreteInputsAreBits(t *testing.T) {
	port := linetest.NewPort(linetest.NewClock())
	var sent [][]byte
	port.OnWrite = func(q []byte, at time.Time) {
		sent = append(sent, bytes.Clone(q[:6]))
		answer := map[byte][]byte{1: {17, 1, 3, 0xCD, 0x6B, 0x05}, 2: {17, 2, 3, 0xAC, 0xDB, 0x35}, 5: q[:6]}[q[1]]
		port.Deliver(at.Add(20*time.Millisecond), seal(slices.Clone(answer)...)...)
	}
	m := modbus.NewMaster(port.Line(fieldbus.Mode{Baud: 19200, Parity: fieldbus.EvenParity, StopBits: 1}))
	for _, tc := range []struct {
		functions    modbus.Functions
		start, count int
		request      []byte
		want         []uint16
	}{
		{modbus.Coils, 19, 19, []byte{17, 1, 0, 19, 0, 19}, []uint16{1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1}},
		{modbus.Discretes, 196, 22, []byte{17, 2, 0, 196, 0, 22}, []uint16{0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1}},
	} {
		got := make([]uint16, tc.count)
		_, err := m.Read(ctx, modbus.Request{Address: 17, Functions: tc.functions, Start: uint16(tc.start), Count: tc.count}, got)
		if err != nil || !slices.Equal(got, tc.want) || !bytes.Equal(sent[len(sent)-1], tc.request) {
			t.Errorf("%v, %v of % x, want %v of % x", err, got, sent[len(sent)-1], tc.want, tc.request)
		}
	}
	for on, request := range map[bool][]byte{true: {17, 5, 0, 172, 0xFF, 0}, false: {17, 5, 0, 172, 0, 0}} {
		if err := m.WriteCoil(ctx, 17, 172, on); err != nil || !bytes.Equal(sent[len(sent)-1], request) {
			t.Errorf("%v: %v, % x", on, err, sent[len(sent)-1])
		}
	}
}

// TestNoTwoPlannedReadsOfBitsLookAlike holds the shapes of coils and discrete inputs
// to the rule of the others: function and byte count are given once.
func TestNoTwoPlannedReadsOfBitsLookAlike(t *testing.T) {
	reads := []modbus.Request{
		{Address: 1, Functions: modbus.Coils, Start: 0, Count: 3, First: 0, Last: 40},
		{Address: 1, Functions: modbus.Coils, Start: 3, Count: 2, First: 0, Last: 40},
		{Address: 1, Functions: modbus.Discretes, Start: 0, Count: 3, First: 0, Last: 40},
		{Address: 1, Start: 0, Count: 3, First: 0, Last: 40},
		{Address: 1, Functions: modbus.Coils, Start: 100, Count: 3, First: 100, Last: 107},
	}
	seen := map[lateness.Shape]int{}
	taken := map[lateness.Shape]bool{}
	for i, ways := range modbus.Assign(taken, reads, 4) {
		for _, v := range ways {
			if other, ok := seen[v.Shape()]; ok {
				t.Errorf("%v of read %d looks like one of read %d", v, i, other)
			}
			seen[v.Shape()] = i
			if !reads[i].Allows(v.Function) || v.Start < reads[i].First || int(v.Start)+int(v.Count)-1 > int(reads[i].Last) {
				t.Errorf("read %d is made as %v", i, v)
			}
		}
		if len(ways) == 0 && i < 4 {
			t.Errorf("read %d has no way of its own", i)
		}
	}
}
