package genibus

import (
	"errors"
	"fmt"
)

// Class is a kind of data items.
type Class byte

// The classes of the public specification, then those that are known from third
// parties (christoph2/GENIBus, OpenEMS, WAGO).
const (
	ProtocolData  Class = 0
	BusData       Class = 1
	Measured      Class = 2
	Commands      Class = 3
	Configuration Class = 4 // kept in EEPROM: never to be written again and again
	Reference     Class = 5
	TestData      Class = 6
	Text          Class = 7
	Memory        Class = 8

	Measured16      Class = 11
	Configuration16 Class = 12
	Reference16     Class = 13
	Measured32      Class = 14
)

// width is how many bytes a GET returns for one ID of the class; zero for a
// text, whose length only the answer tells.
func (c Class) width() int {
	switch c {
	case Text:
		return 0
	case Measured16, Configuration16, Reference16:
		return 2
	case Measured32:
		return 4
	}
	return 1
}

// Operation is what a request asks for.
type Operation byte

// The operations.
const (
	Get  Operation = 0
	Set  Operation = 2
	Info Operation = 3
)

func (o Operation) String() string {
	switch o {
	case Get:
		return "GET"
	case Set:
		return "SET"
	case Info:
		return "INFO"
	}
	return fmt.Sprintf("operation %d", byte(o))
}

// Ack is how a device answers an APDU. It stands where the request has the
// operation.
type Ack byte

// The acknowledges.
const (
	OK           Ack = 0
	UnknownClass Ack = 1
	UnknownID    Ack = 2 // the data is the first ID that is unknown
	Illegal      Ack = 3 // the operation is, or the device's write buffer is full
)

// MaxData is the most bytes that an APDU holds beside its head.
const MaxData = 63

// APDU is one unit of a PDU.
type APDU struct {
	Class Class
	Code  byte // an Operation in a request, an Ack in a reply
	Data  []byte
}

// Operation is the code of a request's APDU.
func (a APDU) Operation() Operation { return Operation(a.Code) }

// Ack is the code of a reply's APDU.
func (a APDU) Ack() Ack { return Ack(a.Code) }

// Append appends the APDU to a PDU. More data than MaxData, or a class or code
// beyond what their bits hold, is a mistake of the program, and panics.
func (a APDU) Append(pdu []byte) []byte {
	if len(a.Data) > MaxData || a.Class > 15 || a.Code > 3 {
		panic(fmt.Sprintf("genibus: an APDU of class %d, code %d, with %d bytes", a.Class, a.Code, len(a.Data)))
	}
	pdu = append(pdu, byte(a.Class), a.Code<<6|byte(len(a.Data)))
	return append(pdu, a.Data...)
}

// AppendGet appends an APDU that asks for values.
func AppendGet(pdu []byte, class Class, ids ...byte) []byte {
	return APDU{class, byte(Get), ids}.Append(pdu)
}

// AppendInfo appends an APDU that asks what items mean.
func AppendInfo(pdu []byte, class Class, ids ...byte) []byte {
	return APDU{class, byte(Info), ids}.Append(pdu)
}

// AppendSet appends an APDU that sets something: commands by their IDs, or
// parameters and references by pairs of ID and value.
func AppendSet(pdu []byte, class Class, data ...byte) []byte {
	return APDU{class, byte(Set), data}.Append(pdu)
}

// errPDU says that the APDUs of a PDU do not add up.
var errPDU = errors.New("genibus: the APDUs do not add up to the PDU")

// Next takes the first APDU off a PDU. At the PDU's end ok is false and err nil.
// The PDU is one that the Decoder has handed out, or one that was built here:
// neither holds a Request-for-Service byte.
func Next(pdu []byte) (a APDU, rest []byte, ok bool, err error) {
	if len(pdu) == 0 {
		return APDU{}, nil, false, nil
	}
	if len(pdu) < 2 || pdu[0]&0xF0 != 0 {
		return APDU{}, nil, false, errPDU
	}
	n := 2 + int(pdu[1]&0x3F)
	if len(pdu) < n {
		return APDU{}, nil, false, errPDU
	}
	return APDU{Class(pdu[0]), pdu[1] >> 6, pdu[2:n:n]}, pdu[n:], true, nil
}

// whole takes the Request-for-Service bytes out of a PDU as it came, in place, and
// tells whether the rest consists of whole APDUs. Such a byte (0x80 to 0x8F) may
// stand wherever an APDU may begin; only masters among themselves use it. Taking it
// out here keeps the place of every value in a PDU independent of it.
func whole(pdu []byte) ([]byte, bool) {
	n := 0 // pdu[:n] is what stays
	for rest := pdu; len(rest) > 0; {
		if rest[0]&0xF0 == 0x80 {
			rest = rest[1:]
			continue
		}
		_, more, _, err := Next(rest)
		if err != nil {
			return nil, false
		}
		n += copy(pdu[n:], rest[:len(rest)-len(more)])
		rest = more
	}
	return pdu[:n:n], true
}

// ReplySize is the most that the PDU of a reply to a request's PDU can hold. An
// INFO entry counts as four bytes, a text as MaxData.
func ReplySize(pdu []byte) (size int) {
	for {
		a, rest, ok, err := Next(pdu)
		if err != nil || !ok {
			return size
		}
		size += 2 + replyData(a)
		pdu = rest
	}
}

// replyData is the most data that the reply to an APDU can hold.
func replyData(a APDU) int {
	n := 0
	switch {
	case a.Operation() == Info:
		n = 4 * len(a.Data)
	case a.Operation() == Get && a.Class == Text:
		n = MaxData
	case a.Operation() == Get:
		n = a.Class.width() * len(a.Data)
	}
	return max(n, 1) // an error carries one byte
}

// Room is the longest PDU for a device with a buffer of this size, in either
// direction. The specification's words (a telegram up to two bytes longer than
// the buffer) and the products' (70 bytes at most, UPE and MP 204) differ; Room
// keeps to the stricter ones: the whole telegram fits the buffer.
func Room(buffer int) int {
	return min(max(buffer, SmallestBuffer)-Overhead, MaxPDU)
}

// Fits tells whether a request and every reply to it fit a device's buffer. A
// text that is asked for alone always does: nobody can bound it further.
func Fits(pdu []byte, buffer int) bool {
	room := Room(buffer)
	if len(pdu) > room {
		return false
	}
	if a, rest, ok, _ := Next(pdu); ok && len(rest) == 0 && a.Class == Text {
		return true
	}
	for {
		a, rest, ok, err := Next(pdu)
		if err != nil {
			return false
		}
		if !ok {
			return true
		}
		if room -= 2 + replyData(a); room < 0 || replyData(a) > MaxData && a.Class != Text {
			return false
		}
		pdu = rest
	}
}

// Refusal is an APDU that a device did not carry out. The other APDUs of the
// telegram stay valid.
type Refusal struct {
	From      byte // the device
	Class     Class
	Operation Operation
	Ack       Ack
	ID        int // the first item refused, or -1 where the device does not name it
}

func (r *Refusal) Error() string {
	where := fmt.Sprintf("device %d refused %v of class %d", r.From, r.Operation, r.Class)
	switch r.Ack {
	case UnknownClass:
		return where + ": it does not know this class"
	case UnknownID:
		return fmt.Sprintf("%s: it has no item %d", where, r.ID)
	}
	if r.ID >= 0 {
		return fmt.Sprintf("%s: not allowed for item %d", where, r.ID)
	}
	return where + ": not allowed, or too much was asked at once"
}
