package rtu

import "encoding/binary"

// Function codes that units know, and the bit that marks an exception.
const (
	readCoils      = 1
	readDiscretes  = 2
	readHolding    = 3
	readInput      = 4
	writeCoil      = 5
	writeRegister  = 6
	diagnostics    = 8
	writeCoils     = 15
	writeRegisters = 16
	refused        = 0x80
)

// Exception is the code of a refusal, 0 for none.
type Exception byte

// The exceptions that units answer with.
const (
	IllegalFunction Exception = 1
	IllegalAddress  Exception = 2
	IllegalValue    Exception = 3
	DeviceFailure   Exception = 4
	Busy            Exception = 6
)

// CRC is the checksum of the serial line guide, chapter 6.2.2.
func CRC(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return c
}

// Seal appends the checksum to a frame without one.
func Seal(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, CRC(b)) }

// Sound tells whether b is a frame with its own checksum.
func Sound(b []byte) bool {
	n := len(b)
	return n >= 4 && n <= 256 && CRC(b[:n-2]) == binary.LittleEndian.Uint16(b[n-2:])
}

// Readdress returns the frame as if another device had sent it.
func Readdress(frame []byte, address byte) []byte {
	b := append([]byte(nil), frame[:len(frame)-2]...)
	b[0] = address
	return Seal(b)
}

// Refuse returns the exception that a device would answer the frame with.
func Refuse(frame []byte, e Exception) []byte {
	return Seal([]byte{frame[0], frame[1]&^refused | refused, byte(e)})
}
