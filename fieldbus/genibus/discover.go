package genibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Discovery is what was found on a bus.
type Discovery struct {
	Units []Identity // in the order in which they were found
	// Duplicates are addresses that two or more devices seem to have. What they
	// answer to collides, so they cannot be told apart on the bus: take all but
	// one of them off, and give each an address of its own.
	Duplicates []byte
	// Collisions counts answers to connection requests that were damaged. Some
	// are usual, because devices draw their delays at random.
	Collisions int
	// Unresolved says that answers were still damaged at the end: there are more
	// units than could be told apart.
	Unresolved bool
}

// DiscoverTime is how long Discover has to look to find everything: a device
// that was polled just before answers after NotPolled only.
const DiscoverTime = 25 * time.Second

// Times of a connection request.
const (
	// connectionWindow is how long answers may begin to come: 3 to 43 ms by
	// chance, and what drivers add.
	connectionWindow = 43*time.Millisecond + patience - ReplyMost
	// connectionPause is the time between two connection requests when nobody
	// answers.
	connectionPause = 400 * time.Millisecond
	// silencing is how often a device that was found is addressed, so that it
	// stays silent.
	silencing = 10 * time.Second
	// damagedAtFactory is how many damaged answers in a row at one address are
	// likely two devices.
	damagedAtFactory = 3
)

// Discover finds the devices of a bus. It asks the known addresses first, then
// repeats connection requests for d, DiscoverTime as a rule; each device that
// answers is identified, handed to found unless that is nil, and kept silent by
// polling it. It returns early, with what it has, when ctx ends.
func (m *Master) Discover(ctx context.Context, known []byte, d time.Duration, found func(Identity)) (Discovery, error) {
	s := search{m: m, found: found, damaged: map[byte]int{}}
	begin := m.clk.Now()
	for _, address := range known {
		if err := s.identify(ctx, address); err != nil {
			return s.Discovery, err
		}
	}
	for m.clk.Now().Sub(begin) < d && ctx.Err() == nil {
		answers, collided, err := m.connect(ctx)
		if err != nil {
			return s.Discovery, err
		}
		// Units that answer with others are heard again until each was heard alone.
		if collided {
			s.Collisions++
			s.Unresolved = true
		} else if len(answers) == 0 {
			s.Unresolved = false
		}
		for _, c := range answers {
			if s.has(c.Address) {
				// It was polled, and is silent: another answers in its name.
				s.duplicate(c.Address)
				continue
			}
			if err := s.identify(ctx, c.Address); err != nil {
				return s.Discovery, err
			}
		}
		// An answer that never comes through may be two at the address that all
		// devices leave the factory with.
		if collided && s.Collisions%4 == 0 && !s.has(FactoryAddress) {
			if err := s.identify(ctx, FactoryAddress); err != nil {
				return s.Discovery, err
			}
		}
		if err := s.silence(ctx); err != nil {
			return s.Discovery, err
		}
		if len(answers) == 0 && !collided {
			if err := m.clk.Sleep(ctx, connectionPause); err != nil {
				break
			}
		}
	}
	return s.Discovery, nil
}

// search is a Discovery in progress.
type search struct {
	Discovery
	m       *Master
	found   func(Identity)
	damaged map[byte]int // answers in a row
}

func (s *search) has(address byte) bool {
	return slices.ContainsFunc(s.Units, func(id Identity) bool { return id.Address == address })
}

func (s *search) duplicate(address byte) {
	if !slices.Contains(s.Duplicates, address) {
		s.Duplicates = append(s.Duplicates, address)
	}
}

// identify asks an address, and takes in who is there. That nobody is, or two
// are, is no error.
func (s *search) identify(ctx context.Context, address byte) error {
	if address < FirstSlave || address > LastSlave || s.has(address) || slices.Contains(s.Duplicates, address) {
		return nil
	}
	for s.damaged[address] < damagedAtFactory {
		id, err := s.m.Identify(ctx, address)
		switch {
		case err == nil:
			s.Units = append(s.Units, id)
			if s.found != nil {
				s.found(id)
			}
			return nil
		case errors.Is(err, ErrDamaged):
			s.damaged[address]++
		case errors.Is(err, ErrNoAnswer), ctx.Err() != nil:
			return nil
		default:
			return err
		}
	}
	s.duplicate(address)
	return nil
}

// silence addresses the units that would soon answer connection requests again,
// those that share an address included: they are known, and would be taken for
// others that could not be told apart.
func (s *search) silence(ctx context.Context) error {
	addresses := slices.Clone(s.Duplicates)
	for _, id := range s.Units {
		addresses = append(addresses, id.Address)
	}
	for _, address := range addresses {
		if s.m.clk.Now().Sub(s.m.Spoken(address)) < silencing {
			continue
		}
		_, _, err := s.m.Do(ctx, address, nil, SmallestBuffer)
		if err != nil && !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrDamaged) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// connect sends one connection request and listens to whoever answers.
func (m *Master) connect(ctx context.Context) (answers []Connection, collided bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, nil
	}
	began := m.clk.Now()
	defer func() { m.stats.Busy += m.clk.Now().Sub(began) }()
	if err := m.silence(); err != nil {
		return nil, false, err
	}
	request := Telegram{DataRequest, ConnectionRequest, m.address, ConnectionPDU()}.Append(m.sent[:0])
	sent, err := m.line.Write(request)
	if err != nil {
		return nil, false, fmt.Errorf("sending a connection request: %w", err)
	}
	m.stats.Requests++
	m.dec.Reset()
	before := m.dec.Malformed.total()
	take := func() {
		for {
			t, ok := m.dec.Next()
			if !ok {
				return
			}
			c, err := ParseConnection(t.PDU)
			switch {
			case t.Start == DataReply && t.To == m.address && err == nil && c.Address == t.From:
				m.stats.Answers++
				answers = append(answers, c)
			case t.Start == DataRequest && t.From == m.address:
				m.stats.Echoes++
			default:
				m.note(t)
			}
		}
	}
	deadline := sent.Add(Wire(len(request)) + connectionWindow)
	end := deadline.Add(Wire(2 * MaxTelegram)) // babble
	for {
		n, err := m.line.Read(m.in[:], deadline)
		now := m.clk.Now()
		if err != nil {
			if !timeout(err) {
				return answers, false, fmt.Errorf("listening for connection replies: %w", err)
			}
			if !m.dec.Silence() {
				break
			}
			take()
			deadline = now
			continue
		}
		for b := m.in[:n]; len(b) > 0; {
			b = b[m.dec.Feed(b):]
			take()
		}
		if now.After(end) {
			break
		}
		if m.dec.Pending() > 0 {
			deadline = later(deadline, now.Add(breath))
		}
	}
	return answers, m.dec.Malformed.total() > before, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// SetAddress gives the device at one address another, and makes sure that it
// has it: nobody may be there before, the same device must be there afterwards,
// and nobody at the old address. The address is kept in the device's EEPROM.
func (m *Master) SetAddress(ctx context.Context, from, to byte) error {
	if from == to || to < FirstSlave || to > LastSlave {
		return fmt.Errorf("genibus: new address %d: use another than %d, from %d to %d", to, from, FirstSlave, LastSlave)
	}
	was, err := m.Identify(ctx, from)
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("the answers at %d are damaged, probably by two devices at once; take one of them off the bus: %w", from, err)
	}
	if err != nil {
		return fmt.Errorf("asking the device at %d who it is: %w", from, err)
	}
	if _, err := m.Try(ctx, to, nil, SmallestBuffer); !errors.Is(err, ErrNoAnswer) {
		if err != nil {
			return fmt.Errorf("seeing whether %d is free: %w", to, err)
		}
		return fmt.Errorf("genibus: address %d is taken by another device", to)
	}
	pdu := AppendSet(nil, Configuration, itemAddress, to)
	reply, err := m.Try(ctx, from, pdu, was.Buffer)
	if err == nil {
		if r := Refused(from, pdu, reply); r != nil {
			return fmt.Errorf("setting the address: %w", r)
		}
	} else if !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("setting the address: %w", err)
	}
	// A device may change before it answers, and be heard at the new address only.
	is, err := m.Identify(ctx, to)
	if err != nil {
		return fmt.Errorf("the device at %d was told to be %d, and does not answer there: %w", from, to, err)
	}
	was.Address = to
	if is != was {
		return fmt.Errorf("genibus: at %d answers another device (%+v) than the one that was at %d (%+v)", to, is, from, was)
	}
	if _, err := m.Try(ctx, from, nil, SmallestBuffer); !errors.Is(err, ErrNoAnswer) {
		return fmt.Errorf("genibus: the device has the address %d now, and something still answers at %d: two devices had it", to, from)
	}
	return nil
}
