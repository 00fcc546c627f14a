package discover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/modbus"
)

const (
	// glance is how long another mode is listened at, once something that makes
	// no sense was heard. Masters poll every second or faster.
	glance = 2 * time.Second
	// crackle is how many stray bytes in ListenTime are of no account: an
	// adapter that was plugged in, a contactor that switched.
	crackle = 8
	// slice bounds a wait, so that a person who gives up is heard.
	slice = 250 * time.Millisecond
)

// listen keeps quiet for ListenTime and returns ErrInUse when the line belongs
// to somebody.
func (s *search) listen(ctx context.Context) error {
	heard, err := s.overhear(ctx, s.Modes[0], ListenTime)
	if err != nil {
		return err
	}
	if heard <= crackle {
		if heard > 0 {
			s.result.Remarks = append(s.result.Remarks, fmt.Sprintf("%d stray bytes were heard before anybody was asked", heard))
		}
		return nil
	}
	// Somebody talks, and not as we listen.
	for _, m := range s.Modes[1:] {
		if err := s.Line.SetMode(m); err != nil {
			return err
		}
		if _, err := s.overhear(ctx, m, glance); err != nil {
			return err
		}
	}
	s.result.Trouble = fieldbus.OnlyNoise
	return fmt.Errorf("%w: %d bytes came in %v that are no Modbus frames at any speed: another protocol, "+
		"or A and B swapped on a line that has a master, or a fault of the line", ErrInUse, heard, ListenTime)
}

// overhear listens at a mode and returns how many bytes came, or ErrInUse when
// they make a frame.
func (s *search) overhear(ctx context.Context, mode fieldbus.Mode, d time.Duration) (heard int, err error) {
	clk := s.Line.Clock()
	end := clk.Now().Add(d)
	var buf [1024]byte
	n := 0
	for now := clk.Now(); now.Before(end); now = clk.Now() {
		if err := ctx.Err(); err != nil {
			return heard, err
		}
		s.Progress(Progress{Listening: true, Mode: mode, Left: s.left + end.Sub(now)})
		if n == len(buf) {
			n = copy(buf[:], buf[n/2:])
		}
		until := now.Add(slice)
		if until.After(end) {
			until = end
		}
		k, err := s.Line.Read(buf[n:], until)
		if errors.Is(err, fieldbus.ErrTimeout) {
			continue
		}
		if err != nil {
			return heard, err
		}
		n, heard = n+k, heard+k
		for i := range n {
			if size := modbus.FrameAt(buf[i:n]); size > 0 {
				s.result.Trouble = fieldbus.OtherMaster
				return heard, fmt.Errorf("%w: a Modbus frame for device %d, function %d, was heard at %s before anything was sent; %s",
					ErrInUse, buf[i], buf[i+1], mode, fieldbus.OtherMaster.Text())
			}
		}
	}
	return heard, nil
}
