package poll

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/fieldbus/modbus"
)

// obey makes a fake pump follow its control registers, after a while.
func (r *rig) obey(address byte, after time.Duration) {
	p := r.m.pumps[address]
	p.regs[200] = 1<<8 | 1<<9 // remote, on
	p.regs[100] = 3
	p.regs[204] = 0
	p.write = func(register, value uint16) error {
		p.regs[register] = value
		follow := func() {
			switch register {
			case 100:
				p.regs[200] = value & 3 << 8
				if value&4 != 0 {
					p.regs[204] = 0
				}
			case 101, 102:
				p.regs[register+101] = value
			case 103:
				p.regs[337] = value
			}
		}
		if after == 0 {
			follow()
		} else {
			time.AfterFunc(after, func() { r.m.set(follow) })
		}
		return nil
	}
}

func TestCommandsAreCarriedOutAndSeen(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, epump(t), 2)
			r.obey(1, after)
			r.m.pumps[1].regs[204] = 57
			r.run(30*time.Second, func() {
				time.Sleep(2500 * time.Millisecond)
				for _, tc := range []struct {
					name, value, want string
					register          uint16
					holds             uint16
				}{
					{"setpoint", "45.5", "45.50 %", 103, 4550},
					{"setpoint", "12 %", "12.00 %", 103, 1200},
					{"control_mode", "constant pressure", "constant pressure", 101, 4},
					{"operation_mode", "6", "maximum", 102, 6},
					{"running", "off", "off", 100, 1},
					{"running", "on", "on", 100, 3},
					{"reset_alarm", "", "none", 100, 3},
					{"access", "local", "local", 100, 2},
					{"access", "remote", "remote", 100, 3},
				} {
					before := time.Now()
					got, err := r.Write(t.Context(), Command{"bus1-1", tc.name, tc.value})
					if err != nil || got.Text != tc.want {
						t.Errorf("%s %s: %+v, %v", tc.name, tc.value, got, err)
						continue
					}
					if got.Sent.Before(before) || got.Seen.Before(got.Sent) {
						t.Errorf("%s %s: asked for at %v, sent %v, seen %v", tc.name, tc.value, before, got.Sent, got.Seen)
					}
					if took := time.Since(before); took < after || took > after+500*time.Millisecond {
						t.Errorf("%s %s took %v", tc.name, tc.value, took)
					}
					if v := r.m.holds(1, tc.register); v != tc.holds {
						t.Errorf("%s %s wrote %d, want %d", tc.name, tc.value, v, tc.holds)
					}
				}
			})
			for _, x := range r.of("bus1-2", "head") {
				if x.Off > 300*time.Millisecond && x.Slot.After(r.readings[0].Slot.Add(2*time.Second)) {
					t.Errorf("the other pump was read %v late", x.Off)
				}
			}
		})
	}
}

func TestTakingCommandOfAStoppedPumpDoesNotStartIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.obey(1, 0)
		r.m.pumps[1].regs[200] = 0 // local, off
		r.m.pumps[1].regs[100] = 2 // a switch left from before
		r.run(10*time.Second, func() {
			time.Sleep(time.Second)
			if _, err := r.Write(t.Context(), Command{"bus1-1", "access", "remote"}); err != nil {
				t.Error(err)
			}
		})
		if got := r.m.pumps[1].regs[100]; got != 1 {
			t.Errorf("the control register holds %d, want remote and off", got)
		}
	})
}

func TestCommandsAreRefusedWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 2)
		r.obey(1, 0)
		r.run(20*time.Second, func() {
			time.Sleep(time.Second)
			wrote := r.m.holds(1, 103)
			check := func(cmd Command, say string) {
				t.Helper()
				_, err := r.Write(t.Context(), cmd)
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), say) {
					t.Errorf("%v: %v", cmd, err)
				}
			}
			check(Command{"bus1-9", "setpoint", "40"}, `no pump "bus1-9"`)
			check(Command{"bus1-1", "warp", "9"}, "it has: access, running")
			check(Command{"bus1-1", "setpoint", "101"}, "allowed: 0.00 % to 100.00 %")
			check(Command{"bus1-1", "setpoint", "-1"}, "out of range")
			check(Command{"bus1-1", "setpoint", "1e9999999"}, "not a number")
			check(Command{"bus1-1", "setpoint", "much"}, "not a number")
			check(Command{"bus1-1", "setpoint", ""}, "not a number")
			check(Command{"bus1-1", "control_mode", "fastest"}, "constant pressure (4)")
			check(Command{"bus1-1", "operation_mode", "7"}, "automatic (0), minimum (4), maximum (6)")
			check(Command{"bus1-1", "reset_alarm", "now"}, "takes no value")
			r.m.set(func() { r.m.pumps[1].regs[200] = 1 << 9 })
			check(Command{"bus1-1", "setpoint", "40"}, "in local")
			check(Command{"bus1-1", "running", "off"}, "in local")
			r.m.set(func() { r.m.pumps[1].regs[200] = 1<<9 | 1<<12 })
			check(Command{"bus1-1", "access", "remote"}, "forced to local")
			r.m.set(func() {
				r.m.pumps[1].regs[200] = 1<<9 | 1<<8
				r.m.pumps[1].write = func(uint16, uint16) error {
					return &modbus.Exception{Address: 1, Function: 6, Code: modbus.IllegalValue}
				}
			})
			check(Command{"bus1-1", "setpoint", "40"}, "does not take this value")
			if got := r.m.holds(1, 103); got != wrote {
				t.Errorf("a refused command wrote %d", got)
			}
		})
	})
}

func TestAPumpThatDoesNotFollowIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.obey(1, time.Hour)
		r.run(20*time.Second, func() {
			time.Sleep(time.Second)
			_, err := r.Write(t.Context(), Command{"bus1-1", "running", "off"})
			if !errors.Is(err, ErrNotFollowed) || !strings.Contains(err.Error(), "running shows on after 5s") {
				t.Error(err)
			}
		})
	})
}

func TestCommandsToPumpsThatDoNotAnswerFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 2)
		r.obey(1, 0)
		r.run(time.Minute, func() {
			time.Sleep(2500 * time.Millisecond)
			r.m.set(func() { r.m.pumps[1].dead = true })
			if _, err := r.Write(t.Context(), Command{"bus1-1", "setpoint", "40"}); !errors.Is(err, ErrNoAnswer) {
				t.Error(err)
			}
			time.Sleep(30 * time.Second)
			before := time.Now()
			if _, err := r.Write(t.Context(), Command{"bus1-1", "setpoint", "40"}); !errors.Is(err, ErrNoAnswer) {
				t.Error(err)
			}
			if took := time.Since(before); took > 300*time.Millisecond {
				t.Errorf("a pump known to be dead was waited for, %v", took)
			}
		})
	})
}

func TestCommandOvertakesPollsOfAFullBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 8)
		r.m.turnaround = 100 * time.Millisecond // never idle
		r.m.pumps[8].dead = true
		for a := byte(1); a <= 7; a++ {
			r.obey(a, 0)
		}
		r.run(time.Minute, func() {
			time.Sleep(5 * time.Second)
			for i := range 40 {
				before := time.Now()
				_, err := r.Write(t.Context(), Command{r.devices[i%7].ID, "setpoint", "40"})
				if err != nil {
					t.Fatal(err)
				}
				// The transaction in flight, then check, write and read-back.
				bound := 260*time.Millisecond + 3*(115+20)*time.Millisecond
				if took := time.Since(before); took > bound {
					t.Errorf("it took %v, more than %v", took, bound)
				}
				time.Sleep(777 * time.Millisecond)
			}
		})
	})
}

func TestACallerWhoGivesUpIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.obey(1, time.Hour)
		r.run(30*time.Second, func() {
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := r.Write(ctx, Command{"bus1-1", "running", "off"}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(time.Second)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.commands) != 0 {
				t.Error("the command is still there")
			}
		})
	})
}

func TestStopEndsCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, epump(t), 1)
		r.obey(1, time.Hour)
		r.run(3*time.Second, func() {
			time.Sleep(time.Second)
			if _, err := r.Write(t.Context(), Command{"bus1-1", "running", "off"}); !errors.Is(err, ErrNotFollowed) {
				t.Error(err)
			}
		})
	})
}
