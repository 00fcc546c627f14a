package label

import (
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
)

// bitmap is an image of one bit a dot, white where nothing was drawn, as PNG has it:
// rows begin with the number of their filter, which is none. image/png would cost the
// firmware a quarter of a megabyte.
type bitmap struct {
	width, height int
	rows          []byte
}

func newBitmap(width, height int) *bitmap {
	b := &bitmap{width: width, height: height, rows: make([]byte, height*(1+(width+7)/8))}
	for i := range b.rows {
		if i%b.stride() != 0 {
			b.rows[i] = 0xFF
		}
	}
	return b
}

func (b *bitmap) stride() int { return 1 + (b.width+7)/8 }

// fill blackens a square; what of it lies outside is left out.
func (b *bitmap) fill(left, top, side int) {
	for y := max(top, 0); y < min(top+side, b.height); y++ {
		for x := max(left, 0); x < min(left+side, b.width); x++ {
			b.rows[y*b.stride()+1+x/8] &^= 0x80 >> (x % 8)
		}
	}
}

// png writes the image as PNG (ISO/IEC 15948), uncompressed: under 100 kB.
func (b *bitmap) png() []byte {
	out := []byte("\x89PNG\r\n\x1a\n")
	header := binary.BigEndian.AppendUint32(nil, uint32(b.width))
	header = binary.BigEndian.AppendUint32(header, uint32(b.height))
	out = chunk(out, "IHDR", append(header, 1, 0, 0, 0, 0)) // one bit, grey
	size := binary.BigEndian.AppendUint32(nil, dotsPerMetre)
	out = chunk(out, "pHYs", append(binary.BigEndian.AppendUint32(size, dotsPerMetre), 1))
	data := []byte{0x78, 0x01} // zlib (RFC 1950) with stored blocks (RFC 1951, 3.2.4)
	for rest := b.rows; len(rest) > 0; {
		n := min(len(rest), 0xFFFF)
		final := byte(0)
		if n == len(rest) {
			final = 1
		}
		data = append(data, final)
		data = binary.LittleEndian.AppendUint16(data, uint16(n))
		data = binary.LittleEndian.AppendUint16(data, ^uint16(n))
		data, rest = append(data, rest[:n]...), rest[n:]
	}
	out = chunk(out, "IDAT", binary.BigEndian.AppendUint32(data, adler32.Checksum(b.rows)))
	return chunk(out, "IEND", nil)
}

func chunk(out []byte, name string, content []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(content)))
	begin := len(out)
	out = append(append(out, name...), content...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[begin:]))
}
