// Package claim is about claim codes: what is printed on a gateway's label and
// proves that somebody has had it in hand.
//
// A code is 80 random bits, made at the bench. On the label it is 17 characters
// of Crockford's base 32, which has no I, L, O and U: sixteen for the bits and one
// for the check, as in K7M2-9QXD-4T0R-H8WZ5. The check character is a
// Reed-Solomon symbol over GF(32): one wrong character is always noticed, and so
// are two that have changed places. Nobody but the label keeps the code: the
// backend keeps its SHA-256, which 80 random bits need no salt for, and the gateway
// forgets it once it is provisioned.
package claim

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Code is a claim code.
type Code [10]byte

// New makes a code; random must be a source of secrets.
func New(random io.Reader) (c Code, err error) {
	_, err = io.ReadFull(random, c[:])
	return c, err
}

const (
	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	digits   = 16 // of five bits
)

// String writes the code as it stands on the label, in groups.
func (c Code) String() string {
	var values [digits + 1]byte
	for i := range digits {
		bit := 5 * i
		pair := uint16(c[bit/8]) << 8
		if bit/8+1 < len(c) {
			pair |= uint16(c[bit/8+1])
		}
		values[i] = byte(pair>>(11-bit%8)) & 31
	}
	values[digits] = check(values[:digits])
	var b strings.Builder
	for i, v := range values {
		if i > 0 && i < digits && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(alphabet[v])
	}
	return b.String()
}

// Parse reads a code as people type it: in small letters or large, grouped or not,
// with O for 0 and I or L for 1.
func Parse(s string) (c Code, err error) {
	var values []byte
	for _, r := range strings.ToUpper(s) {
		switch r {
		case '-', ' ':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		v := strings.IndexRune(alphabet, r)
		if v < 0 {
			return c, fmt.Errorf("%q is not a character of a claim code", r)
		}
		values = append(values, byte(v))
	}
	if len(values) != digits+1 {
		return c, fmt.Errorf("a claim code has %d characters, and this one %d", digits+1, len(values))
	}
	if check(values[:digits]) != values[digits] {
		return c, errors.New("a character of the claim code is wrong, or two have changed places")
	}
	for i, v := range values[:digits] {
		bit := 5 * i
		pair := uint16(v) << (11 - bit%8)
		c[bit/8] |= byte(pair >> 8)
		if bit/8+1 < len(c) {
			c[bit/8+1] |= byte(pair)
		}
	}
	return c, nil
}

// check is the sum of a^(16-i) v[i] over GF(32) with a = x, modulo x^5+x^2+1. The
// powers differ and none is 1, hence what it notices.
func check(values []byte) (sum byte) {
	for _, v := range values {
		sum ^= v
		if sum <<= 1; sum&32 != 0 {
			sum ^= 0b100101
		}
	}
	return sum
}

// Hash is what the backend keeps.
func (c Code) Hash() []byte {
	h := sha256.Sum256(c[:])
	return h[:]
}

// URI is what the label's QR code says: PENSTOCK:SERIAL/CODE. All of it is in the
// alphanumeric set of QR codes, which keeps them small. A scheme of our own, not
// the address of a page: a phone's camera must not send the code anywhere by
// itself, and the bench need not know where the page is.
func (c Code) URI(serial string) string { return "PENSTOCK:" + serial + "/" + c.String() }
