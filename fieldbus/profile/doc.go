// Package profile describes pump families as data.
//
// A pump family is what answers alike: the same registers, the same scales, the
// same commands. One YAML file describes one family, so that somebody who knows
// a pump and not Go can add it; docs/profiles.md shows how, in ten minutes. The
// families in the folder families are part of the program; a site may add its
// own, or replace one by a file of the same name.
//
// # What a family is made of
//
// Blocks are the ranges of registers that the device answers as a whole. A
// device refuses a read that leaves a block (exception 02), so the poll planner
// never plans one. Inside a block, registers that nobody asked for may be read
// over when that is cheaper than a second frame.
//
// Points map registers onto the point vocabulary (telemetry.Points): one name,
// one unit, one meaning, whichever family or bus a value came from. A point's
// scale is written as the manual prints it, "0.01 K" or "0.001 bar", and is
// converted exactly into the vocabulary's unit: no floating point, no rounding.
// What travels is the raw integer; the scale goes into the catalogue once.
//
// Commands say how to change something, within which limits, and where to read
// back whether it happened.
//
// # Register numbers
//
// Manuals print registers from 1 (register 00201 travels as address 200) or,
// less often, as they travel. A family says which, under numbering; everything
// in its file then uses the printed number. Types of this package hold printed
// numbers too; Profile.Wire turns one into what travels.
//
// A 32-bit value is two registers, the high one first, and is never taken from
// two answers: between them the low half may have overflowed.
//
// # Not sure
//
// Some registers are known from third parties only, or sources disagree. Such a
// point carries the reason under uncertain; docs/profiles.md lists them.
package profile
