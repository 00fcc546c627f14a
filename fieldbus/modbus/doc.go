// Package modbus is a Modbus RTU master that cannot be fooled by a late answer.
//
// # The protocol
//
// A request is one frame: address, function code, data, and a CRC-16 with its
// low byte first. The addressed device answers with a frame of its own address
// and function, or with the function's high bit set and a code that says why it
// refused (an exception). Frames have no start or end mark. They are parted by
// silence: 3.5 characters, or 1.75 ms flat above 19200 baud (MODBUS over Serial
// Line V1.02, chapter 2.5.1.1). Numbers are 16-bit registers, high byte first.
// The register that a manual prints as 00201 travels as address 200.
//
// # What is subtle
//
// An answer carries no number that ties it to its request. If a device answers
// after its time-out, the answer to the request before looks exactly like the
// answer to this one, and the master hands on one register's value as
// another's, without an error, and keeps doing so for every request that
// follows. A device, repeater or radio that sends an answer twice does the same
// damage without any time-out at all. This package prevents it by these rules:
//
//   - The shape of a planned read names its block: each is given combinations of
//     function and byte count that no other planned read of the device has
//     (Assign), by a register more or fewer and by the functions 03 and 04. An
//     answer of another block then cannot match, however late it comes. Requests
//     that are not planned take a shape that is free.
//   - Two consecutive requests to one device never look for the same answer.
//   - After a time-out or a damaged answer the same request is repeated
//     unchanged. A late answer to the first attempt then is an answer to this one.
//     The value carries the time of the earliest attempt that it can belong to.
//   - A shape that may still be answered is not used for a quiet window, and is
//     avoided for five times as long; see package lateness. Other shapes, and
//     other devices, may be asked at once.
//
// # How it is built
//
// goburrow/modbus makes and checks the frames (its packager) and knows the
// functions (its client). Its serial port is never used: Transporter takes that
// place, on a fieldbus.Line. Master sits on top and chooses function and length
// so that the rules hold without waiting.
//
// Sources: MODBUS Application Protocol V1.1b3; MODBUS over Serial Line V1.02.
package modbus
