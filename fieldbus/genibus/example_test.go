package genibus_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
)

// A master with the address 1 asks the pump at 32 for its head (item 37) and
// flow (39). The pump's bytes mean nothing without what it says of them.
func Example() {
	request := genibus.AppendGet(nil, genibus.Measured, 37, 39)
	sent := genibus.Telegram{Start: genibus.DataRequest, To: 32, From: 1, PDU: request}.Append(nil)
	fmt.Printf("% X\n", sent)

	// What comes back on the wire: 0x7B and 0x23.
	var d genibus.Decoder
	d.Feed([]byte{0x24, 0x06, 0x01, 0x20, 0x02, 0x02, 0x7B, 0x23, 0xA1, 0xAA})
	reply, ok := d.Next()
	if !ok {
		fmt.Println("no sound telegram:", d.Malformed)
		return
	}
	if err := genibus.Match(request, reply.PDU); err != nil {
		fmt.Println(err)
		return
	}
	values, _, _, _ := genibus.Next(reply.PDU)

	// The answer to INFO for the same items, asked once: metres over 0 to 12,
	// cubic metres an hour over 0 to 32.
	info := []byte{0x82, 25, 0, 12, 0x82, 23, 0, 32}
	for i := range values.Data {
		var m genibus.Meaning
		m, info, _ = genibus.ParseInfo(info)
		scale, _ := m.Scale(1, genibus.Later)
		raw, _ := m.Value(values.Data[i : i+1])
		fmt.Printf("%.2f %s\n", scale.Float(raw), scale.Unit.Symbol)
	}
	// Output:
	// 27 06 20 01 02 02 25 27 1E D3
	// 5.81 m
	// 4.41 m3/h
}

// A pump on a line: who is it, and what is its head? Where a serial line is
// wanted, fieldbus.Line is one; here two units answer from memory.
func ExampleMaster() {
	line := newMemory(32, 33)
	master := genibus.NewMaster(line, line, 1)
	ctx := context.Background()

	found, err := master.Discover(ctx, []byte{32}, genibus.DiscoverTime, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, unit := range found.Units {
		fmt.Printf("unit %d: family %d, type %d\n", unit.Address, unit.Family, unit.Type)
	}

	// What item 37 means, asked once …
	unit := found.Units[0]
	var scale genibus.Scale
	_, err = master.Collect(ctx, unit.Address, genibus.Measured, genibus.Info, []byte{37}, unit.Buffer, func(_ byte, data []byte) {
		if meaning, _, err := genibus.ParseInfo(data); err == nil {
			scale, _ = meaning.Scale(1, genibus.Later)
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// … and its value, as often as one likes. The two bytes before the value are
	// the APDU's head.
	reply, _, err := master.Do(ctx, unit.Address, genibus.AppendGet(nil, genibus.Measured, 37), unit.Buffer)
	if err != nil {
		fmt.Println(err) // ErrNoAnswer, ErrDamaged: the same Do once more is allowed
		return
	}
	fmt.Printf("head %.2f %s\n", scale.Float(uint32(reply[2])), scale.Unit.Symbol)

	// In local, a pump takes no command but REMOTE.
	if err := master.Command(ctx, unit.Address, unit.Buffer, genibus.CmdRemote, genibus.CmdStart); err != nil {
		fmt.Println(err)
	}
	// Output:
	// unit 32: family 1, type 10
	// unit 33: family 1, type 10
	// head 5.81 m
}

// memory is a line with units on it that answer at once, and its own clock.
type memory struct {
	units []*genitest.Unit
	now   time.Time
	reply []byte
}

func newMemory(addresses ...byte) *memory {
	m := &memory{}
	for _, address := range addresses {
		u := genitest.New(address, 1, 10, 1)
		u.Put(genibus.Measured, 37, genibus.Meaning{Format: genibus.Scaled, Unit: 25, Range: 12}, 0x7B)
		u.Values[genitest.Item{Class: genibus.Commands, ID: genibus.CmdRemote}] = 0
		u.Values[genitest.Item{Class: genibus.Commands, ID: genibus.CmdStart}] = 0
		m.units = append(m.units, u)
	}
	return m
}

func (m *memory) Now() time.Time { return m.now }

func (m *memory) Sleep(ctx context.Context, d time.Duration) error {
	m.now = m.now.Add(max(d, 0))
	return ctx.Err()
}

func (m *memory) Write(b []byte) (time.Time, error) {
	at := m.now
	m.now = m.now.Add(genibus.Wire(len(b)))
	var d genibus.Decoder
	d.Feed(b)
	t, _ := d.Next()
	for _, u := range m.units {
		if t.To == genibus.ConnectionRequest && u.Addressed > 0 {
			continue // it was addressed, and is silent for a while
		}
		if reply, ok := u.Answer(t); ok {
			m.reply = reply.Append(m.reply)
		}
	}
	return at, nil
}

func (m *memory) Read(p []byte, deadline time.Time) (int, error) {
	if len(m.reply) == 0 {
		m.now = deadline
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, m.reply)
	m.reply = m.reply[n:]
	m.now = m.now.Add(genibus.Wire(n))
	return n, nil
}

func (m *memory) Quiet(d time.Duration, _ []byte) (int, error) {
	m.now, m.reply = m.now.Add(d), nil
	return 0, nil
}
