package store

import "sync"

// hub hands updates to subscribers. One that does not keep up is let go: its
// channel is closed, and it subscribes and looks anew.
type hub struct {
	mu   sync.Mutex
	subs map[string]map[chan Update]bool // by gateway
}

// Subscribe returns a channel that tells of every commit and change of presence
// of a gateway, until cancel is called. A subscriber that falls behind finds the
// channel closed, and has missed something.
func (s *Store) Subscribe(gateway string) (updates <-chan Update, cancel func()) {
	const room = 64
	c := make(chan Update, room)
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.hub.subs == nil {
		s.hub.subs = map[string]map[chan Update]bool{}
	}
	if s.hub.subs[gateway] == nil {
		s.hub.subs[gateway] = map[chan Update]bool{}
	}
	s.hub.subs[gateway][c] = true
	return c, func() {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		s.hub.drop(gateway, c)
	}
}

func (h *hub) tell(u Update) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs[u.Gateway] {
		select {
		case c <- u:
		default:
			h.drop(u.Gateway, c)
		}
	}
}

// drop closes a subscription; mu is held.
func (h *hub) drop(gateway string, c chan Update) {
	if h.subs[gateway][c] {
		delete(h.subs[gateway], c)
		close(c)
	}
	if len(h.subs[gateway]) == 0 {
		delete(h.subs, gateway)
	}
}
