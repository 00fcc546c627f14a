package poll

import (
	"context"
	"testing"
	"time"

	"penstock/fieldbus/genibus"
	"penstock/fieldbus/genibus/genitest"
	"penstock/fieldbus/profile"
)

// TestAnUnansweredSetIsReadBackAndRemoteIsKept takes command of a pump whose access
// is polled once a minute, and loses the answer to that.
func TestAnUnansweredSetIsReadBackAndRemoteIsKept(t *testing.T) {
	slow, err := profile.Parse("slow.yaml", []byte(`
title: slow
source: test
protocol: genibus
confidence: D
period: 1m
points:
  - {point: head, id: 37}
  - {point: access, id: 83, bits: 4, map: {0: 1, 1: 0}}
commands:
  - {command: access, send: {0: 8, 1: 7}, read_back: access}
`))
	if err != nil {
		t.Fatal(err)
	}
	u := magna3(32)
	u.Values[genitest.Item{Class: genibus.Measured, ID: 83}] = 0x10 // in local
	r := newGeniRig(t, slow, u)
	sets, lost := 0, 0
	r.disturb = func(_ *genitest.Unit, reply genibus.Telegram, at time.Time) {
		q := r.telegram[len(r.telegram)-1]
		if a, _, ok, _ := genibus.Next(q.PDU); ok && a.Operation() == genibus.Set {
			if sets++; lost == 0 {
				lost++
				return
			}
		}
		r.port.Deliver(at, reply.Append(nil)...)
	}
	out := make(chan error, 1)
	var taken time.Time
	r.run(4*time.Minute, map[time.Duration]func(){time.Minute: func() {
		taken = r.clk.Now()
		go func() {
			_, err := r.Write(context.Background(), Command{Pump: "bus1-32", Name: "access", Value: "remote"})
			out <- err
		}()
		for n := 0; n == 0; {
			r.Bus.mu.Lock()
			n = len(r.commands)
			r.Bus.mu.Unlock()
		}
	}})
	if err := <-out; err != nil || sets != 1 || lost != 1 {
		t.Errorf("%v; %d SETs, %d answers lost", err, sets, lost)
	}
	times := r.asked[32]
	for i := 1; i < len(times); i++ {
		if gap := times[i].Sub(times[i-1]); times[i-1].After(taken) && gap > genibus.KeepAlive {
			t.Errorf("left alone for %v, %v after it was taken", gap, times[i-1].Sub(taken))
		}
	}
}
