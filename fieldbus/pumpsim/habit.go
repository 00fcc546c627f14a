package pumpsim

import (
	"slices"
	"time"

	"penstock/fieldbus/pumpsim/fault"
)

// habit is what faults remember of the device at an address from one request to
// the next.
type habit struct {
	spoke   time.Time    // the last bit of its last answer
	refuses [4]time.Time // until when it refuses everything, by code
	said    [][]byte     // its last answers, the newest last
	again   []copyOf     // answers that will come again
}

// copyOf is an answer that comes again ahead of one of the device's next answers.
type copyOf struct {
	frame []byte
	after int // answers before it comes
}

// saidMost is how many of its last answers a device can repeat: as many as the
// amount of the fault old can ask for.
const saidMost = 16

func (b *bus) habit(address byte) *habit {
	h := b.habits[address]
	if h == nil {
		h = &habit{}
		b.habits[address] = h
	}
	return h
}

// paused tells whether a unit does not hear the request because it came too soon
// after the unit's own answer.
func (b *bus) paused(u device, target byte) bool {
	h, ok := b.hit(fault.Pause)
	spoke := b.habit(target).spoke
	return ok && u.Address() == target && !spoke.IsZero() && b.began.Before(spoke.Add(h.Wait))
}

// refusal is the code that a device refuses a request with, 0 if it does not.
func (b *bus) refusal(e *Served, request []byte, note func(fault.Kind) (fault.Hit, bool)) int {
	h := b.habit(byte(e.Address))
	for code, kind := range []fault.Kind{1: fault.Refuse1, 2: fault.Refuse2, 3: fault.Refuse3} {
		if code == 0 {
			continue
		}
		if hit, ok := b.hit(kind); ok {
			h.refuses[code] = later(h.refuses[code], b.ends.Add(hit.Wait))
		}
		if b.ends.Before(h.refuses[code]) {
			e.Faults = append(e.Faults, kind.String())
			return code
		}
	}
	if hit, ok := b.hit(fault.NoFunction); ok && b.framing.function(request) == hit.N {
		note(fault.NoFunction)
		return 1
	}
	if hit, ok := note(fault.Exception); ok {
		return hit.N
	}
	return 0
}

// older replaces an answer by one that the device gave before.
func (h *habit) older(frame []byte, hit fault.Hit) []byte {
	back := min(1+hit.Roll.IntN(hit.N), len(h.said))
	if back == 0 {
		return frame
	}
	return h.said[len(h.said)-back]
}

// keep remembers an answer.
func (h *habit) keep(frame []byte) {
	if h.said = append(h.said, slices.Clone(frame)); len(h.said) > saidMost {
		h.said = h.said[1:]
	}
}

// come returns the copies whose turn it is.
func (h *habit) come() (frames [][]byte) {
	left := h.again[:0]
	for _, c := range h.again {
		if c.after--; c.after > 0 {
			left = append(left, c)
		} else {
			frames = append(frames, c.frame)
		}
	}
	h.again = left
	return frames
}
