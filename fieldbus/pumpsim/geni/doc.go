// Package geni is the pump's side of GENIbus: it takes a telegram, acts on a
// plant of package physics, and makes the reply.
//
// A unit is a table of items. Each is one byte with a number in a class; a value
// of 16, 24 or 32 bits is several of them in a row, the high byte first. A master
// asks for values (GET), for what they mean (INFO), or sets something (SET). Which
// items a unit has, and what a byte of them is worth, differs from one generation
// and family to the next, on purpose: a master has to ask.
//
// What is modelled beside the items:
//   - a connection request is answered only by units that nobody has addressed for
//     20 seconds, each after a random delay of 3 to 43 ms;
//   - in local a unit obeys its panel and takes the command REMOTE only; in remote
//     it falls back to local when it has not been addressed for 6 seconds (35 for
//     the UPE of the third generation);
//   - a telegram, or a reply, that does not fit the unit's buffer. The documents do
//     not say what a unit makes of one; this one is silent;
//   - six commands, parameters and references at most in a telegram.
//
// The codec here is its own, so that a mistake of the master's would show.
//
// Sources: GENIbus Application Programmers Manual with the GENIbus Protocol
// Specification (November 2000); Operating the UPE circulator via GENIbus or G100,
// edition 2.6 (2002); Operating the MP 204 via GENIbus or G100, edition 2.28
// (2011); christoph2/GENIBus and OpenEMS for what is later than these. Scales are
// plausible, not a product's: a master reads them by INFO.
package geni
