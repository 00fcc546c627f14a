package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheMachineCountsFromItsBoot(t *testing.T) {
	name := System.Boot()
	if again := System.Boot(); name == "" || again != name {
		t.Errorf("this boot is called %q, then %q", name, again)
	}
	before := System.Uptime()
	if after := System.Uptime(); before <= 0 || after < before {
		t.Errorf("up for %v, then for %v", before, after)
	}
}

// stepping is a machine whose clock on the wall is set now and then.
type stepping struct {
	system
	wall time.Time
	up   time.Duration
}

func (s *stepping) Now() time.Time        { return s.wall }
func (s *stepping) Uptime() time.Duration { return s.up }

func TestSinceBootNeverSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &stepping{wall: time.Unix(0, 0), up: time.Minute}
		c := SinceBoot(m)
		before := c.Now()
		m.wall, m.up = time.Now(), m.up+time.Second // somebody sets the clock on the wall
		if d := c.Now().Sub(before); d != time.Second {
			t.Errorf("a second later it shows %v more", d)
		}
		if !c.Now().Equal(AtUptime(m.up)) {
			t.Errorf("it shows %v after %v", c.Now(), m.up)
		}
		if err := c.Sleep(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
	})
}
