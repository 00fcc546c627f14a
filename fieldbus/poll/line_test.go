package poll

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/linetest"
	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// slave is a Modbus device on a line in memory: what registers hold, and how
// soon it answers.
type slave struct {
	p    *profile.Profile
	hold func(register int) uint16 // by printed number
	late func() time.Duration      // beside the turnaround; negative: no answer
}

// answer is the frame that the slave sends, nil for none.
func (s *slave) answer(q []byte) []byte {
	a := []byte{q[0], q[1]}
	switch q[1] {
	case 3, 4:
		start, count := int(binary.BigEndian.Uint16(q[2:]))+s.p.Numbering, int(binary.BigEndian.Uint16(q[4:]))
		inside := false
		for _, b := range s.p.Blocks {
			inside = inside || b.Contains(start, start+count-1)
		}
		if !inside {
			return seal(append([]byte{q[0], q[1] | 0x80}, 2))
		}
		a = append(a, byte(2*count))
		for r := start; r < start+count; r++ {
			a = binary.BigEndian.AppendUint16(a, s.hold(r))
		}
	default:
		a = append([]byte{q[0], q[1] | 0x80}, 1)
	}
	return seal(a)
}

func seal(b []byte) []byte {
	c := uint16(0xFFFF)
	for _, v := range b {
		c ^= uint16(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return append(b, byte(c), byte(c>>8))
}

// TestBusOnALine runs the bus on the real master and a line in memory: what is
// delivered is what the registers held, at a time when they held it, whether
// frames get lost, come late or not.
func TestBusOnALine(t *testing.T) {
	for name, late := range map[string]func(*rand.Rand) time.Duration{
		"on time": func(*rand.Rand) time.Duration { return 0 },
		"lost":    func(r *rand.Rand) time.Duration { return []time.Duration{0, 0, 0, 0, -1}[r.IntN(5)] },
		"late":    func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20)/19) * 300 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			p := epump(t)
			clk := linetest.NewClock()
			port := linetest.NewPort(clk)
			rng := rand.New(rand.NewPCG(7, 8))
			// A register holds its number and the second, so that a value tells
			// where and when it was taken.
			hold := func(address byte) func(int) uint16 {
				return func(r int) uint16 {
					if r >= 30 && r <= 32 {
						return uint16(r) // what it is does not change
					}
					return uint16(r)<<7 ^ uint16(clk.Now().Unix()%128) ^ uint16(address)<<12
				}
			}
			slaves := map[byte]*slave{}
			cfg := Config{Name: "bus1", Port: "memory"}
			for a := byte(1); a <= 4; a++ {
				slaves[a] = &slave{p: p, hold: hold(a), late: func() time.Duration { return late(rng) }}
				cfg.Devices = append(cfg.Devices, Device{Address: int(a), Profile: p})
			}
			port.OnWrite = func(q []byte, at time.Time) {
				s := slaves[q[0]]
				wait := s.late()
				if wait < 0 {
					return
				}
				a := s.answer(q)
				mode := fieldbus.Default
				end := at.Add(mode.Wire(len(q)) + silence(mode) + 5*time.Millisecond + wait + mode.Wire(len(a)))
				port.Deliver(end, a...)
			}
			bus, err := NewBus(cfg, Deps{Clock: clk, Log: discard, Open: port.Open})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			good, missing := 0, 0
			err = bus.Run(ctx, func(x telemetry.Reading) {
				if clk.Now().Sub(linetest.Epoch) > 2*time.Minute {
					cancel()
				}
				d := bus.devices[x.Group/2]
				s := bus.groups[x.Group].Series[x.Series]
				it, _ := d.Profile.Item(s.Point)
				switch x.Quality {
				case telemetry.Missing:
					missing++
					return
				case telemetry.NotAvailable:
					return
				}
				good++
				// The value was held at the reading's time or after it: within
				// the seconds from its time to now.
				from, to := x.Slot.Add(x.Off).Unix(), clk.Now().Unix()
				for sec := from; sec <= to; sec++ {
					var regs []uint16
					for r := it.Register; r <= it.Last(); r++ {
						regs = append(regs, uint16(r)<<7^uint16(sec%128)^uint16(d.Address)<<12)
					}
					if raw, q := it.Decode(regs); q == telemetry.Good && raw == x.Raw {
						return
					}
				}
				t.Fatalf("%s of %s: %d at %v, which its registers did not hold", s.Point, s.Pump, x.Raw, x.Slot.Add(x.Off))
			})
			if err != nil {
				t.Fatal(err)
			}
			if total := good + missing; good < total/4 || name == "on time" && missing > 0 {
				t.Errorf("%d good, %d missing", good, missing)
			}
			t.Logf("%d good, %d missing, %v", good, missing, bus.Status().Counters)
		})
	}
}
