package genibus

import "errors"

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
