package genibus

// crcTable advances CRC-16 with polynomial 0x1021, most significant bit first,
// by one byte.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		r := uint16(i) << 8
		for range 8 {
			carry := r&0x8000 != 0
			if r <<= 1; carry {
				r ^= 0x1021
			}
		}
		table[i] = r
	}
	return table
}()

// CRC is CRC-16/GENIBUS of b: of a telegram, the bytes from its length to the
// end of its PDU (GENIbus Protocol Specification, chapter on the telegram).
func CRC(b []byte) uint16 {
	r := uint16(0xFFFF)
	for _, c := range b {
		r = r<<8 ^ crcTable[byte(r>>8)^c]
	}
	return ^r
}
