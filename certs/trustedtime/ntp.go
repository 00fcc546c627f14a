package trustedtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// agree is how close the offsets of honest servers are to one another.
const agree = time.Second

// Offset asks one time server how far the machine's clock is off.
type Offset func(ctx context.Context, server string) (time.Duration, error)

// AskNTP asks all servers at once and corrects the clock by what most of them
// agree on: the median of those within a second of one another, if they are more
// than half of the servers that were to be asked. One liar among three is
// outvoted; two of two that differ say nothing.
func AskNTP(ctx context.Context, c *Clock, servers []string, ask Offset) error {
	type answer struct {
		off time.Duration
		err error
	}
	answers := make(chan answer, len(servers))
	for _, s := range servers {
		go func() {
			off, err := ask(ctx, s)
			if err != nil {
				err = fmt.Errorf("%s: %w", s, err)
			}
			answers <- answer{off, err}
		}()
	}
	var offs []time.Duration
	var errs []error
	for range servers {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		offs = append(offs, a.off)
	}
	off, n := majority(offs)
	if 2*n <= len(servers) {
		errs = append(errs, fmt.Errorf("of %d time servers %d answered and %d agree; more than half must", len(servers), len(offs), n))
		return errors.Join(errs...)
	}
	wall, up := reading(c.machine)
	c.Correct(NTP, wall.Add(off), up)
	return nil
}

// majority is the median of the largest set of offsets within agree of one
// another, and how many they are.
func majority(offs []time.Duration) (off time.Duration, n int) {
	offs = slices.Sorted(slices.Values(offs))
	for i := range offs {
		j := i
		for j < len(offs) && offs[j]-offs[i] <= agree {
			j++
		}
		if j-i > n {
			n, off = j-i, offs[(i+j-1)/2]
		}
	}
	return off, n
}
