package genibus

import (
	"context"
	"errors"
)

// Connection is what a device says of itself in answer to a connection request.
type Connection struct {
	Buffer  int  // bytes, see Room
	BusMode byte // how it takes part in the bus
	Address byte
	Group   byte
	Family  byte
	Type    byte
}

// Items by which a device identifies itself.
const (
	itemBuffer  = 2 // class 0
	itemBusMode = 3
	itemAddress = 46 // class 4
	itemGroup   = 47
	itemFamily  = 148 // class 2
	itemType    = 149
	itemVersion = 150

	// The texts of class 7.
	TextName   = 1
	TextSerial = 9
)

// ConnectionPDU is the PDU of a connection request (GENIbus Protocol
// Specification, figure 7). It is sent as a Data Request to ConnectionRequest.
func ConnectionPDU() []byte {
	return AppendGet(AppendGet(AppendGet(nil, ProtocolData, itemBuffer, itemBusMode),
		Configuration, itemAddress, itemGroup), Measured, itemFamily, itemType)
}

var errConnection = errors.New("genibus: this does not answer a connection request")

// ParseConnection reads the PDU of the answer to a connection request.
func ParseConnection(pdu []byte) (c Connection, err error) {
	for _, want := range []struct {
		class Class
		a, b  *byte
	}{{ProtocolData, nil, &c.BusMode}, {Configuration, &c.Address, &c.Group}, {Measured, &c.Family, &c.Type}} {
		got, rest, ok, err := Next(pdu)
		if err != nil || !ok || got.Class != want.class || got.Ack() != OK || len(got.Data) != 2 {
			return Connection{}, errConnection
		}
		if want.a == nil {
			c.Buffer = int(got.Data[0])
		} else {
			*want.a = got.Data[0]
		}
		*want.b = got.Data[1]
		pdu = rest
	}
	if len(pdu) != 0 {
		return Connection{}, errConnection
	}
	return c, nil
}

// Identity is who a device is.
type Identity struct {
	Address, Group        byte
	Buffer                int // bytes, see Room
	Family, Type, Version byte
	Name, Serial          string // "" where the device does not tell
}

// Identify asks the device at an address who it is. Parts that it does not tell
// stay zero. To be addressed also silences it: it answers no connection request
// for NotPolled.
func (m *Master) Identify(ctx context.Context, address byte) (Identity, error) {
	id := Identity{Address: address, Buffer: SmallestBuffer}
	pdu := AppendGet(AppendGet(AppendGet(nil, ProtocolData, itemBuffer),
		Measured, itemFamily, itemType, itemVersion), Configuration, itemGroup)
	reply, err := m.Try(ctx, address, pdu, SmallestBuffer)
	if err != nil {
		return id, err
	}
	for rest := reply; ; {
		a, more, ok, _ := Next(rest)
		if !ok {
			break
		}
		rest = more
		switch {
		case a.Ack() != OK:
		case a.Class == ProtocolData:
			id.Buffer = max(int(a.Data[0]), SmallestBuffer)
		case a.Class == Measured:
			id.Family, id.Type, id.Version = a.Data[0], a.Data[1], a.Data[2]
		case a.Class == Configuration:
			id.Group = a.Data[0]
		}
	}
	for _, text := range []struct {
		id  byte
		dst *string
	}{{TextName, &id.Name}, {TextSerial, &id.Serial}} {
		_, err := m.Collect(ctx, address, Text, Get, []byte{text.id}, id.Buffer, func(_ byte, data []byte) { *text.dst = String(data) })
		if err != nil {
			return id, err
		}
	}
	return id, nil
}
