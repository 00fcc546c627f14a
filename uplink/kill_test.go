package uplink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
	"penstock/internal/telemetry"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
	"penstock/uplink/wire/decode"
)

// cellar is the endpoint's store in a test of kills: what it holds by name, which
// no kill takes away.
type cellar struct {
	mu        sync.Mutex
	names     map[string]string // record name → body
	bodies    map[string]int    // body → under how many names
	gaps      []telemetry.Gap
	conflicts int
}

func (c *cellar) keep(rec decode.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprint(rec.Epoch, rec.Lane, rec.Seq)
	if before, ok := c.names[name]; ok {
		if before != string(rec.Body) {
			c.conflicts++
		}
		return
	}
	c.names[name] = string(rec.Body)
	if rec.Kind == wire.KindGap {
		if g, err := decode.ParseGap(rec.Body); err == nil {
			c.gaps = append(c.gaps, g)
		}
		return
	}
	c.bodies[string(rec.Body)]++
}

// TestKillsAtAnyMomentLoseNothing kills gateway and endpoint at random, thousands
// of times: the real queue on a disk that forgets what was not synced, the real
// session, TLS and MQTT, in virtual time. What Append had confirmed is in the store
// exactly once, whatever was killed when.
func TestKillsAtAnyMomentLoseNothing(t *testing.T) {
	seeds, rounds := uint64(50), 40
	if testing.Short() {
		seeds = 5
	}
	kills, cuts := 0, 0
	for seed := range seeds {
		play(t, func(p *plant) {
			r := rand.New(rand.NewPCG(seed, 11))
			store := &cellar{names: map[string]string{}, bodies: map[string]int{}}
			fate := rand.New(rand.NewPCG(seed, 12))
			p.e.decide = func(_ *peer, _ int, rec decode.Record) action {
				a := ack
				if n := fate.IntN(60); n < 4 {
					a = action(n)
				}
				if a != withhold {
					store.keep(rec)
				}
				return a
			}
			d := faultdisk.New()
			confirmed := map[string]bool{}
			n := uint64(0)
			for round := range rounds {
				q, _, err := queue.Open(d, "/queue", queue.Options{SegmentSize: 4 << 10, MaxRecord: 1 << 10, Limit: 1 << 20, Clock: clock.System,
					Rand: queueRandom(seed, round), EncodeGap: wire.GapPayload, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
				p.cfg.Queue, p.cfg.FS, p.cfg.Dir = q, disk.OS, t.TempDir()
				p.start()
				last := round == rounds-1
				if !last {
					d.CutAt(d.Operations() + 1 + r.IntN(60))
				}
				for range 1 + r.IntN(12) {
					n++
					body := binary.BigEndian.AppendUint64(bytes.Repeat([]byte{1}, 20), n)
					lane := queue.History
					if r.IntN(4) == 0 {
						lane = queue.Urgent
					}
					if q.Append(lane, time.Now(), new(wire.Packer).AppendPayload(nil, wire.KindEvent, body)) == nil {
						confirmed[string(body)] = true
					}
					time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
					if r.IntN(12) == 0 { // the endpoint is killed, too
						kills++
						p.e.stop()
						time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
						p.e.listen(p.net.Listen("endpoint.test:8883"))
					}
				}
				if last {
					p.e.set(func(e *endpoint) {
						e.decide = func(_ *peer, _ int, rec decode.Record) action { store.keep(rec); return ack }
					})
					p.drain(time.Hour)
				}
				// The gateway is gone in this instant, wherever it was.
				d.Cut()
				cuts++
				p.e.cutAll()
				p.stop()
				if !last {
					d = d.AfterCut(r.Uint64())
				}
			}
			missing, twice := 0, 0
			for body := range confirmed {
				switch store.bodies[body] {
				case 0:
					missing++
				case 1:
				default:
					twice++
				}
			}
			if missing > 0 || twice > 0 || store.conflicts > 0 || len(confirmed) < rounds {
				t.Errorf("seed %d: of %d confirmed %d are missing, %d stored twice; %d conflicts, %d gaps", seed, len(confirmed), missing, twice, store.conflicts, len(store.gaps))
			}
		})
	}
	t.Logf("%d kills of the gateway, %d of the endpoint", cuts, kills)
}

// queueRandom makes epochs that differ from run to run.
func queueRandom(seed uint64, round int) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(round)+1)
	return rand.NewChaCha8(key)
}
