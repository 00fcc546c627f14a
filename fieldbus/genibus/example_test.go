package genibus_test

import (
	"fmt"

	"penstock/fieldbus/genibus"
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
