// Package genitest has a GENIbus device for tests: a table of bytes that answers
// telegrams by the rules of the specification.
//
// It knows nothing of time and of wires. A test hands it the telegrams that it
// sees, and puts on the wire what comes back, late, twice or damaged as it likes.
package genitest

import (
	"bytes"

	"penstock/fieldbus/genibus"
)

// Item names one byte of a device.
type Item struct {
	Class genibus.Class
	ID    byte
}

// Unit is a device.
type Unit struct {
	Address byte
	Buffer  int // zero is the smallest there is
	Values  map[Item]byte
	Infos   map[Item]genibus.Meaning // an item without one is unscaled
	Texts   map[byte]string
	// Set is called before an item is set or a command (value 0) carried out;
	// false refuses it. Nil takes everything.
	Set func(it Item, value byte) bool
	// Nameless makes the unit refuse what it does not know without saying which.
	Nameless bool
	// Deaf makes the unit answer nothing.
	Deaf bool
	// Addressed counts the requests to the unit's own address.
	Addressed int
}

// New returns a unit that identifies itself.
func New(address, family, kind, version byte) *Unit {
	u := &Unit{Address: address, Values: map[Item]byte{}, Infos: map[Item]genibus.Meaning{}, Texts: map[byte]string{}}
	u.Values[Item{genibus.ProtocolData, 2}] = genibus.SmallestBuffer
	u.Values[Item{genibus.ProtocolData, 3}] = 0x0E
	u.Values[Item{genibus.Configuration, 46}] = address
	u.Values[Item{genibus.Configuration, 47}] = genibus.FactoryGroup
	u.Values[Item{genibus.Measured, 148}] = family
	u.Values[Item{genibus.Measured, 149}] = kind
	u.Values[Item{genibus.Measured, 150}] = version
	return u
}

// Put sets a value of one or more bytes at consecutive IDs, and what INFO says of
// it.
func (u *Unit) Put(class genibus.Class, id byte, m genibus.Meaning, value ...byte) {
	for i, v := range value {
		it := Item{class, id + byte(i)}
		u.Values[it] = v
		if i > 0 {
			m = genibus.Meaning{Format: m.Format, LowByte: true, AllValid: true, Unit: genibus.NoUnit}
		}
		u.Infos[it] = m
	}
}

// Answer is what the unit says to a telegram; false when it says nothing.
func (u *Unit) Answer(t genibus.Telegram) (genibus.Telegram, bool) {
	mine := t.To == u.Address
	if u.Deaf || !mine && t.To != genibus.ConnectionRequest && t.To != genibus.Broadcast {
		return genibus.Telegram{}, false
	}
	if mine {
		u.Addressed++
	}
	reply := genibus.Telegram{Start: genibus.DataReply, To: t.From, From: u.Address, PDU: u.answer(t.PDU)}
	// A command may have given the unit another address; it still answers here.
	return reply, t.Start == genibus.DataRequest && t.To != genibus.Broadcast
}

func (u *Unit) answer(pdu []byte) (out []byte) {
	for {
		a, rest, ok, err := genibus.Next(pdu)
		if err != nil || !ok {
			return out
		}
		out, pdu = u.one(a).Append(out), rest
	}
}

// one answers one APDU.
func (u *Unit) one(a genibus.APDU) genibus.APDU {
	got := genibus.APDU{Class: a.Class}
	refuse := func(ack genibus.Ack, data ...byte) genibus.APDU {
		if u.Nameless {
			return genibus.APDU{Class: a.Class, Code: byte(genibus.Illegal)}
		}
		return genibus.APDU{Class: a.Class, Code: byte(ack), Data: data}
	}
	switch a.Operation() {
	case genibus.Set:
		step := 2
		if a.Class == genibus.Commands {
			step = 1
		}
		for i := 0; i+step <= len(a.Data); i += step {
			it, value := Item{a.Class, a.Data[i]}, a.Data[i+step-1]
			if _, known := u.Values[it]; !known {
				return refuse(genibus.UnknownID, it.ID)
			}
			if step == 1 {
				value = 0
			}
			if u.Set != nil && !u.Set(it, value) {
				return refuse(genibus.Illegal)
			}
			if step == 2 {
				u.Values[it] = value
			}
			if it == (Item{genibus.Configuration, 46}) {
				u.Address = value
			}
		}
	case genibus.Info:
		for _, id := range a.Data {
			m, described := u.Infos[Item{a.Class, id}]
			if _, known := u.Values[Item{a.Class, id}]; !known {
				return refuse(genibus.UnknownID, id)
			}
			if !described {
				m = genibus.Meaning{Unit: genibus.NoUnit}
			}
			got.Data = m.Append(got.Data)
		}
	case genibus.Get:
		if a.Class == genibus.Text {
			if len(a.Data) != 1 || u.Texts[a.Data[0]] == "" {
				return refuse(genibus.UnknownID, bytes.Clone(a.Data[:min(1, len(a.Data))])...)
			}
			got.Data = append([]byte(u.Texts[a.Data[0]]), 0)
			return got
		}
		for _, id := range a.Data {
			v, known := u.Values[Item{a.Class, id}]
			if !known {
				return refuse(genibus.UnknownID, id)
			}
			got.Data = append(got.Data, v)
		}
	}
	return got
}
