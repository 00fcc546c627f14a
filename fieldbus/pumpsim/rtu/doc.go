// Package rtu is the pump's side of Modbus RTU: it takes a request frame, acts
// on a plant of package physics, and makes the answer.
//
// A Grundfos pump does not speak Modbus itself. A communication module (CIM 200
// and its like) sits in it, asks the pump over GENIbus, and serves what it last
// heard as registers. Two things follow, and both matter to a master: what the
// module serves may be old (Unit.SetStale; the module's receive counter then
// stands still), and the registers of different pumps are the same map with
// other registers marked "not available" (0xFFFF).
//
// The map is made of blocks with gaps between them. A read that touches a gap is
// refused with exception 02, however little of it; a hole inside a block reads as
// not available. Registers are counted from 1 in the documents and travel
// counted from 0. The solar drive (rsi) has a map of its own, in which they travel
// as they are written.
//
// Sources: MODBUS Application Protocol V1.1b3 and MODBUS over Serial Line V1.02;
// Grundfos "Modbus for Grundfos pumps" functional profile as far as its pages are
// public; TRON4R/ha-grundfos-magna3-modbus (MIT) and remmob/magna3 (MIT) for what
// of it has been seen on pumps; mugiendii/Grundfos_RSI-Modbus for the solar
// drive.
package rtu
