// Package genibus speaks GENIbus, the bus that Grundfos pumps carry on board.
//
// It needs nothing but a serial line (see Line) and a clock, and none of the
// rest of Penstock, so it can be used alone. What follows teaches the protocol;
// a reader who knows it may go straight to Master.
//
// # The wire
//
// RS-485, half duplex, 9600 bit/s, eight data bits, no parity, one stop bit. A
// byte takes 1.042 ms, a full telegram of 70 bytes 73 ms. One device, the
// master, asks; up to 31 others answer, each when asked, 3 to 50 ms after the
// question. Between two telegrams the wire is silent for at least 3 ms, and
// within one telegram for at most 1.2 ms.
//
// # Telegrams
//
// A telegram is
//
//	start, length, destination, source, PDU …, CRC high, CRC low
//
// The start byte says what it is: a Data Request (0x27) is answered, a Data
// Message (0x26) is not, a Data Reply (0x24) is the answer. The length counts
// from the destination to the end of the PDU, so it is the telegram's size less
// four. The CRC is CRC-16/GENIBUS (polynomial 0x1021, start 0xFFFF, result
// inverted; "123456789" gives 0xD64E) over everything between the start byte
// and itself. A device says nothing to a telegram whose CRC is wrong.
//
// The PDU is a row of APDUs, or empty: an empty request is a prompt, by which a
// master shows that it is there. See Telegram and Decoder.
//
// # APDUs
//
// An APDU is a class, an operation, and up to 63 bytes:
//
//	0000cccc, oonnnnnn, data …
//
// The classes are kinds of data items: 0 protocol data, 2 measured data, 3
// commands, 4 configuration parameters, 5 reference values, 7 texts. An item is
// one byte with an ID of its own; a 16-bit value is two items, its high byte
// and its low byte. The operations are GET (data: IDs), SET (IDs of commands, or
// pairs of ID and value) and INFO (IDs), which asks what an item means.
//
// The answer has one APDU for each of the request, in the same order, with an
// acknowledge in the operation's place: OK and the values, class unknown, ID
// unknown and the first such ID, or operation illegal. An answer carries values
// and no IDs: only its position and count tie a value to its item. See Next and
// Match. A device that could be a master itself may put a Request-for-Service byte
// (0x80 to 0x8F) where an APDU may begin; Decoder takes it out.
//
// Each device has a buffer, 70 bytes or more (class 0, item 2), and telegrams in
// both directions must fit, so that a request is packed with its answer in
// mind: see ReplySize and Fits.
//
// # Meaning
//
// GET returns bytes; what they mean the device tells itself. INFO returns, for
// each item, a head that says how it is coded, and for a scaled item a unit, a
// zero and a range: (zero + x*range/254) units. The scale is exact here, a
// rational number. Whether an item is the high byte of a value of 16, 24 or 32
// bits is the one thing that INFO does not tell; a table of the product must.
// See Info, Scale and Units.
//
// # Local and remote
//
// A pump obeys its own panel (local) or the bus (remote). In local it accepts
// one command, REMOTE. A pump in remote that is not addressed for six seconds
// falls back to local by itself, which is why a master that has taken command
// must talk to it at least every three seconds, dull moments included.
//
// # Sources
//
// GENIbus Application Programmers Manual with the GENIbus Protocol
// Specification (Grundfos, November 2000); Operating the UPE circulator via
// GENIbus or G100, edition 2.6 (2002); Operating the MP 204 via GENIbus or G100,
// edition 2.28 (2011); all in github.com/christoph2/GENIBus, folder doc. Classes
// from 9 on and the units 75 to 114 are not in these and are known from third
// parties only; where this package relies on them, it says so.
//
// No recording of a pump's wire is public. The telegrams in testdata are printed
// in these documents, or derived from them. To pass them shows agreement with
// the documents, and not yet with a pump.
package genibus
