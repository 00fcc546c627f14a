package fieldbus

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Parity is the parity bit of a character.
type Parity byte

// The parities in use on pump lines.
const (
	NoParity   Parity = 'N'
	EvenParity Parity = 'E'
	OddParity  Parity = 'O'
)

// Mode is the speed and the character format of a line. A character always has
// eight data bits: both protocols need them.
type Mode struct {
	Baud     int // bits a second
	Parity   Parity
	StopBits int // 1 or 2
}

// Default is the factory setting of Grundfos Modbus modules: 19200 8E1.
var Default = Mode{Baud: 19200, Parity: EvenParity, StopBits: 1}

// Speeds lists the speeds that a line can be set to.
var Speeds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

// ParseMode reads a mode as people write it: "19200 8E1", "9600-8N1", or a
// speed alone, which means 8E1.
func ParseMode(s string) (Mode, error) {
	var m Mode
	err := m.UnmarshalText([]byte(s))
	return m, err
}

// UnmarshalText reads what ParseMode reads.
func (m *Mode) UnmarshalText(text []byte) error {
	speed, format, found := strings.Cut(strings.TrimSpace(string(text)), " ")
	if !found {
		speed, format, found = strings.Cut(speed, "-")
	}
	if !found {
		format = "8E1"
	}
	baud, err := strconv.Atoi(speed)
	format = strings.ToUpper(strings.TrimSpace(format))
	if err != nil || len(format) != 3 || format[0] != '8' {
		return fmt.Errorf("line mode %q: write speed and format, like \"19200 8E1\"", text)
	}
	parsed := Mode{Baud: baud, Parity: Parity(format[1]), StopBits: int(format[2] - '0')}
	if err := parsed.Validate(); err != nil {
		return err
	}
	*m = parsed
	return nil
}

// MarshalText writes the mode as String does.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// String is the mode as people write it, "19200 8E1".
func (m Mode) String() string {
	return fmt.Sprintf("%d 8%c%d", m.Baud, m.Parity, m.StopBits)
}

// Validate tells what is impossible about a mode, and what is allowed.
func (m Mode) Validate() error {
	known := false
	for _, b := range Speeds {
		known = known || b == m.Baud
	}
	switch {
	case !known:
		return fmt.Errorf("line speed %d: use one of %v", m.Baud, Speeds)
	case m.Parity != NoParity && m.Parity != EvenParity && m.Parity != OddParity:
		return fmt.Errorf("parity %q: use N, E or O", m.Parity)
	case m.StopBits != 1 && m.StopBits != 2:
		return fmt.Errorf("%d stop bits: use 1 or 2", m.StopBits)
	}
	return nil
}

// Bits is the length of a character on the wire, start bit included: 11 for
// 8E1 and 8N2, 10 for 8N1.
func (m Mode) Bits() int {
	bits := 1 + 8 + m.StopBits
	if m.Parity != NoParity {
		bits++
	}
	return bits
}

// Wire is the time that n bytes take on the wire when they follow one another
// without a gap.
func (m Mode) Wire(n int) time.Duration {
	if m.Baud <= 0 {
		return 0
	}
	return time.Duration(n*m.Bits()) * time.Second / time.Duration(m.Baud)
}
