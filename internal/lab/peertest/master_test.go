package peertest

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"penstock/fieldbus/pumpsim"
)

// pump runs a virtual pump at address 1, and returns its port and what it has
// served so far.
func pump(t *testing.T) (port string, served func() []pumpsim.Served) {
	t.Helper()
	var mu sync.Mutex
	var log []pumpsim.Served
	sim, err := pumpsim.New(pumpsim.Options{Seed: 1, OnServed: func(e pumpsim.Served) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, e)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.AddPump(pumpsim.PumpOptions{Address: 1, Model: "magna3"}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := sim.Run(ctx); err != nil {
			t.Errorf("the virtual pump: %v", err)
		}
	})
	ended := false
	end := func() {
		if !ended {
			ended = true
			stop()
			run.Wait()
		}
	}
	t.Cleanup(end)
	return sim.Path(), func() []pumpsim.Served {
		end() // everything is in the log then
		return log
	}
}

func TestALibmodbusMasterReadsAndWritesOurPump(t *testing.T) {
	master := compile(t, "master")
	port, served := pump(t)
	out, err := exec.Command(master, port, "19200",
		"read", "1", "300", "20",
		"input", "1", "200", "25",
		"read", "1", "0", "10",
		"write", "1", "103", "6200", // the set-point
		"multi", "1", "750", "17", "18", // user registers
		"read", "1", "103", "1",
		"read", "1", "750", "2",
		"read", "1", "224", "2", // across the end of a block
		"read", "1", "50", "1", // in a gap
		"write", "1", "200", "1", // not writable
		"write", "1", "103", "10001", // above 100 %
	).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	log := served()
	if len(lines) != 11 || len(log) != 11 {
		t.Fatalf("%d lines, %d answers; want 11 each:\n%s", len(lines), len(log), out)
	}
	for i, line := range lines {
		want := strings.Trim(fmt.Sprint(log[i].Values), "[]")
		switch {
		case log[i].Exception == 2:
			want = "error Illegal data address"
		case log[i].Exception == 3:
			want = "error Illegal data value"
		case log[i].Function == 6 || log[i].Function == 16:
			want = "written"
		}
		if line != want {
			t.Errorf("command %d: libmodbus has %q; the pump served %q", i, line, want)
		}
	}
	for i, want := range map[int]string{3: "written", 4: "written", 5: "6200", 6: "17 18",
		7: "error Illegal data address", 8: "error Illegal data address", 9: "error Illegal data address", 10: "error Illegal data value"} {
		if lines[i] != want {
			t.Errorf("command %d: %q; want %q", i, lines[i], want)
		}
	}
}

func TestMbpollReadsOurPump(t *testing.T) {
	need(t, "mbpoll", program("mbpoll"))
	port, served := pump(t)
	var polled [][]uint16
	// mbpoll counts registers from 1, as they are printed.
	for _, args := range [][]string{
		{"-t", "4", "-r", "201", "-c", "25"},
		{"-t", "3", "-r", "301", "-c", "58"},
		{"-t", "4:hex", "-r", "21", "-c", "17"},
	} {
		out, err := exec.Command("mbpoll", append([]string{"-m", "rtu", "-b", "19200", "-P", "even", "-a", "1", "-o", "5", "-1"}, append(args, port)...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("mbpoll %v: %v\n%s", args, err, out)
		}
		polled = append(polled, values(t, string(out)))
	}
	log := served()
	if len(log) != len(polled) {
		t.Fatalf("mbpoll polled %d times; the pump served %d", len(polled), len(log))
	}
	for i := range log {
		if got, want := fmt.Sprint(polled[i]), fmt.Sprint(log[i].Values); got != want {
			t.Errorf("mbpoll has %s; the pump served %s", got, want)
		}
	}
}

var polledLine = regexp.MustCompile(`(?m)^\[(\d+)\]:\s+(\S+)`)

// values are those that mbpoll printed, as "[201]: 	-1 (65535)" or "[201]: 0x1F".
func values(t *testing.T, out string) (v []uint16) {
	t.Helper()
	for _, m := range polledLine.FindAllStringSubmatch(out, -1) {
		n, err := strconv.ParseInt(m[2], 0, 32)
		if err != nil {
			t.Fatalf("mbpoll said %q: %v", m[0], err)
		}
		v = append(v, uint16(n))
	}
	return v
}
