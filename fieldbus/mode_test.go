package fieldbus

import (
	"testing"
	"time"
)

func TestModeReadsWhatPeopleWrite(t *testing.T) {
	for text, want := range map[string]Mode{
		"19200 8E1":  {19200, EvenParity, 1},
		"9600-8n2":   {9600, NoParity, 2},
		"115200 8O1": {115200, OddParity, 1},
		"38400":      {38400, EvenParity, 1},
	} {
		got, err := ParseMode(text)
		if err != nil || got != want {
			t.Errorf("ParseMode(%q) = %v, %v; want %v", text, got, err, want)
		}
		again, err := ParseMode(want.String())
		if err != nil || again != want {
			t.Errorf("ParseMode(%q) = %v, %v: a mode does not survive its own text", want.String(), again, err)
		}
	}
}

func TestModeRefusesNonsenseAndSaysWhatIsAllowed(t *testing.T) {
	for _, text := range []string{"", "fast", "19200 7E1", "19201 8E1", "19200 8X1", "19200 8E3", "19200 8E", "-9600 8N1"} {
		if m, err := ParseMode(text); err == nil {
			t.Errorf("ParseMode(%q) = %v; want an error", text, m)
		}
	}
}

func TestWireTimeCountsEveryBitOfACharacter(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		n    int
		want time.Duration
	}{
		{Mode{9600, EvenParity, 1}, 96, 110 * time.Millisecond},
		{Mode{9600, NoParity, 2}, 96, 110 * time.Millisecond},
		{Mode{9600, NoParity, 1}, 96, 100 * time.Millisecond},
		{Mode{115200, EvenParity, 1}, 1152, 110 * time.Millisecond},
	} {
		if got := c.mode.Wire(c.n); got != c.want {
			t.Errorf("%v: %d bytes take %v; want %v", c.mode, c.n, got, c.want)
		}
	}
}
