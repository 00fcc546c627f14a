package genibus

import (
	"bytes"
	"context"
	"errors"
	"slices"
)

// attempts is how often a request is sent: the specification allows one repeat.
const attempts = 2

// Try is Do with the one repeat that the specification allows.
func (m *Master) Try(ctx context.Context, to byte, pdu []byte, buffer int) (reply []byte, err error) {
	for range attempts {
		reply, _, err = m.Do(ctx, to, pdu, buffer)
		if !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrDamaged) {
			break
		}
	}
	return reply, err
}

// Collect asks for any number of items of one class, by GET or INFO, in as few
// telegrams as the device's buffer allows, and hands what each item answered to
// each. A device answers nothing of an APDU that holds one item it does not
// have, so the items that it refuses are found out, one by one where it names
// them and by halves where it does not, and returned.
//
// It is for setting up: it allocates, and takes as many transactions as it takes.
func (m *Master) Collect(ctx context.Context, to byte, class Class, op Operation, ids []byte, buffer int, each func(id byte, data []byte)) (refused []byte, err error) {
	rest := slices.Clone(ids)
	for len(rest) > 0 {
		n := min(len(rest), MaxData)
		for n > 1 && !Fits(APDU{class, byte(op), rest[:n]}.Append(nil), buffer) {
			n--
		}
		no, err := m.collect(ctx, to, class, op, rest[:n], buffer, each)
		refused = append(refused, no...)
		if err != nil {
			return refused, err
		}
		rest = rest[n:]
	}
	return refused, nil
}

func (m *Master) collect(ctx context.Context, to byte, class Class, op Operation, ids []byte, buffer int, each func(byte, []byte)) (refused []byte, err error) {
	for len(ids) > 0 {
		pdu := APDU{class, byte(op), ids}.Append(nil)
		reply, err := m.Try(ctx, to, pdu, buffer)
		if err != nil {
			return refused, err
		}
		got, _, _, err := Next(reply)
		if err != nil {
			return refused, err
		}
		switch {
		case got.Ack() == OK:
			spread(class, op, ids, bytes.Clone(got.Data), each)
			return refused, nil
		case got.Ack() == UnknownClass || len(ids) == 1:
			return append(refused, ids...), nil
		case len(got.Data) == 1: // it is named
			refused = append(refused, got.Data[0])
			ids = slices.DeleteFunc(slices.Clone(ids), func(id byte) bool { return id == got.Data[0] })
			continue
		}
		half := len(ids) / 2
		no, err := m.collect(ctx, to, class, op, ids[:half], buffer, each)
		refused = append(refused, no...)
		if err != nil {
			return refused, err
		}
		ids = ids[half:]
	}
	return refused, nil
}

// spread hands each item its part of the data.
func spread(class Class, op Operation, ids, data []byte, each func(byte, []byte)) {
	for _, id := range ids {
		n := class.width()
		switch {
		case op == Info && class == Commands:
			n = 1
		case op == Info:
			n = infoSize(data[0])
		case class == Text:
			n = len(data)
		}
		each(id, data[:n:n])
		data = data[n:]
	}
}
