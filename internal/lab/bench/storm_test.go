package bench

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestTheVirtualClockWakesInOrderAndJumps(t *testing.T) {
	v := newVirtual()
	began := v.Now()
	var mu sync.Mutex
	var woke []time.Duration
	var wg sync.WaitGroup
	v.add(3)
	for i := range 3 {
		wg.Go(func() {
			defer v.done()
			for n := 1; n <= 3; n++ {
				if err := v.Sleep(context.Background(), time.Duration(i+1)*time.Hour); err != nil {
					t.Error(err)
				}
				mu.Lock()
				woke = append(woke, v.Now().Sub(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := 1; i < len(woke); i++ {
		if woke[i] < woke[i-1] {
			t.Errorf("woke at %v", woke)
		}
	}
	if len(woke) != 9 || woke[8] != 9*time.Hour {
		t.Errorf("woke at %v", woke)
	}
}

// TestAFleetComesBackSpreadOut holds the firmware's rules against what a small
// auth service offers, for the disasters of the benchmark.
func TestAFleetComesBackSpreadOut(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand gateways take seconds")
	}
	const offered = 800 // handshakes a second of one core, measured
	for _, d := range []disaster{
		{name: "power", spread: time.Minute},
		{name: "endpoint restarts", cached: true, connected: true, endpointBack: 3 * time.Second},
		{name: "another takes over", cached: true, connected: true, lostEndpoint: true},
		{name: "all away", cached: true, connected: true, endpointBack: 10 * time.Minute, authBack: 10 * time.Minute},
	} {
		figures := map[string]float64{}
		playStorm(d, offered, func(m Metric) { figures[m.Metric] = max(figures[m.Metric], m.Value) })
		if figures["connected"] < stormFleet {
			t.Errorf("%s: %v of %d came back", d.name, figures["connected"], stormFleet)
		}
		if p := max(figures["peak_auth_handshakes_per_s"], figures["peak_endpoint_handshakes_per_s"]); p > offered {
			t.Errorf("%s: a peak of %v handshakes a second", d.name, p)
		}
	}
}
