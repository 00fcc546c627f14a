package geni

import "encoding/binary"

// The three kinds of telegram, and addresses with a meaning (GENIbus Protocol
// Specification).
const (
	dataRequest = 0x27
	dataMessage = 0x26
	dataReply   = 0x24

	connection = 254
	broadcast  = 255

	// FirstAddress to LastAddress are those of units; LastAddress is the factory's.
	FirstAddress = 32
	LastAddress  = 231
)

// overhead is what a telegram has beside its PDU, and before it.
const (
	overhead = 6
	before   = 4
)

// CRC is CRC-16/GENIBUS of b: polynomial 0x1021, begun with 0xFFFF, inverted.
func CRC(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
	}
	return ^c
}

// seal sets the length and appends the CRC to a telegram that has neither.
func seal(b []byte) []byte {
	b[1] = byte(len(b) - 2)
	return binary.BigEndian.AppendUint16(b, CRC(b[1:]))
}

// Sound tells whether b is one whole telegram.
func Sound(b []byte) bool {
	n := len(b)
	return n >= overhead && (b[0] == dataRequest || b[0] == dataMessage || b[0] == dataReply) &&
		int(b[1]) == n-4 && CRC(b[1:n-2]) == binary.BigEndian.Uint16(b[n-2:])
}

// Target is the address that a telegram is for; 0 as long as that has not come.
func Target(b []byte) byte {
	if len(b) < 3 {
		return 0
	}
	return b[2]
}

// Source is the address that a telegram is from.
func Source(telegram []byte) byte { return telegram[3] }

// Readdress returns the telegram as if another unit had sent it.
func Readdress(telegram []byte, source byte) []byte {
	b := append([]byte(nil), telegram[:len(telegram)-2]...)
	b[3] = source
	return seal(b)
}

// Refuse returns the reply as if the unit had refused every APDU of the request,
// with an acknowledge of 1 to 3. An acknowledge of 2 names the first item that was
// asked for.
func Refuse(request, reply []byte, ack byte) []byte {
	b := append([]byte(nil), reply[:before]...)
	for pdu := request[before : len(request)-2]; len(pdu) >= 2; pdu = pdu[2+int(pdu[1]&0x3F):] {
		if n := int(pdu[1] & 0x3F); ack == ackID && n > 0 {
			b = append(b, pdu[0], ack<<6|1, pdu[2])
			continue
		}
		b = append(b, pdu[0], ack<<6)
	}
	return seal(b)
}

// readyForSend asks for the role of the bus master; a device that can be one may
// put it where an APDU may begin.
const readyForSend = 0x80

// Ready returns the reply with a ready-for-send byte before one of its APDUs or
// after the last, or nil if there is no room. pick chooses one of n places.
func Ready(reply []byte, pick func(n int) int) []byte {
	if len(reply) > maxTelegram {
		return nil
	}
	places := []int{before}
	for at := before; at+2 <= len(reply)-2; {
		at += 2 + int(reply[at+1]&0x3F)
		places = append(places, at)
	}
	at := places[pick(len(places))]
	b := append([]byte(nil), reply[:at]...)
	b = append(b, readyForSend)
	b = append(b, reply[at:len(reply)-2]...)
	return seal(b)
}

// maxTelegram is a telegram whose length can still grow by one.
const maxTelegram = 258

// Scramble returns the telegram with other data in the same APDUs.
func Scramble(telegram []byte, random func() byte) []byte {
	b := append([]byte(nil), telegram[:len(telegram)-2]...)
	for pdu := b[before:]; len(pdu) >= 2; {
		if pdu[0] == readyForSend {
			pdu = pdu[1:]
			continue
		}
		n := 2 + int(pdu[1]&0x3F)
		for i := 2; i < n; i++ {
			pdu[i] = random()
		}
		pdu = pdu[n:]
	}
	return seal(b)
}
