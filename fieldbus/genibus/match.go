package genibus

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrMismatch says that a reply is well formed and is not the answer to the
// request: other classes, other counts, or an ID that was not asked for.
var ErrMismatch = errors.New("genibus: the reply does not fit the request")

// Match checks the PDU of a reply against the PDU of its request: as many
// APDUs, of the same classes, each with the right count of values or a
// well-formed refusal. A reply that passes can be walked by Next beside its
// request. The reply to an empty request is empty.
func Match(request, reply []byte) error {
	for i := 0; ; i++ {
		asked, more, ok, err := Next(request)
		if err != nil {
			return err
		}
		got, rest, answered, err := Next(reply)
		if err != nil {
			return err
		}
		if ok != answered {
			return fmt.Errorf("%w: it has another number of APDUs", ErrMismatch)
		}
		if !ok {
			return nil
		}
		if !fits(asked, got) {
			return fmt.Errorf("%w: APDU %d", ErrMismatch, i+1)
		}
		request, reply = more, rest
	}
}

// fits tells whether an APDU can be the answer to another.
func fits(asked, got APDU) bool {
	if got.Class != asked.Class {
		return false
	}
	switch got.Ack() {
	case UnknownClass:
		return len(got.Data) == 0
	case UnknownID:
		return len(got.Data) == 1 && names(asked, got.Data[0])
	case Illegal:
		// The specification shows no data; its appendix C.17 shows the ID.
		return len(got.Data) == 0 || len(got.Data) == 1 && names(asked, got.Data[0])
	}
	switch asked.Operation() {
	case Set:
		return len(got.Data) == 0
	case Info:
		return infoFits(asked, got.Data)
	case Get:
		if asked.Class == Text {
			return true
		}
		return len(got.Data) == asked.Class.width()*len(asked.Data)
	}
	return false
}

// names tells whether an ID is one that the APDU asks for.
func names(asked APDU, id byte) bool {
	if asked.Operation() != Set || asked.Class == Commands {
		return bytes.IndexByte(asked.Data, id) >= 0
	}
	for i := 0; i < len(asked.Data); i += 2 {
		if asked.Data[i] == id {
			return true
		}
	}
	return false
}

// refusal is what a reply's APDU says against its request's, or nil.
func refusal(from byte, asked, got APDU) *Refusal {
	if got.Ack() == OK {
		return nil
	}
	r := &Refusal{From: from, Class: asked.Class, Operation: asked.Operation(), Ack: got.Ack(), ID: -1}
	if len(got.Data) == 1 {
		r.ID = int(got.Data[0])
	}
	return r
}

// Refused is the first refusal in a reply that Match has passed, or nil.
func Refused(from byte, request, reply []byte) *Refusal {
	for {
		asked, more, ok, err := Next(request)
		got, rest, answered, _ := Next(reply)
		if err != nil || !ok || !answered {
			return nil
		}
		if r := refusal(from, asked, got); r != nil {
			return r
		}
		request, reply = more, rest
	}
}

// String is the text of a class 7 reply: it ends at its zero byte, or fills the
// APDU.
func String(data []byte) string {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		data = data[:i]
	}
	return string(data)
}
