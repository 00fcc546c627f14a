package fault

import "math/rand/v2"

// FlipBits flips 1 to n different bits of b. The checksum of Modbus finds up to
// three in any frame.
func FlipBits(b []byte, n int, r *rand.Rand) {
	total := 8 * len(b)
	picked := map[int]bool{}
	for range min(1+r.IntN(n), total) {
		i := r.IntN(total)
		for picked[i] {
			i = (i + 1) % total
		}
		picked[i] = true
		b[i/8] ^= 1 << (i % 8)
	}
}

// BurstBits damages bits within a run of at most n, at least the first of them.
// The checksum of Modbus finds any run of up to 16.
//
// The wire sends each byte's lowest bit first, and the checksum is made in that
// order; a run is one in that order too.
func BurstBits(b []byte, n int, r *rand.Rand) {
	total := 8 * len(b)
	first := r.IntN(total)
	b[first/8] ^= 1 << (first % 8)
	for i := first + 1; i < min(first+n, total); i++ {
		if r.IntN(2) == 0 {
			b[i/8] ^= 1 << (i % 8)
		}
	}
}

// OverwriteBytes puts random bytes over 1 to n bytes in a row. One time in
// 65536 the checksum fits again.
func OverwriteBytes(b []byte, n int, r *rand.Rand) {
	count := min(1+r.IntN(n), len(b))
	first := r.IntN(len(b) - count + 1)
	for i := range count {
		b[first+i] = byte(r.Uint32())
	}
}

// RandomBytes returns n of them.
func RandomBytes(n int, r *rand.Rand) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
