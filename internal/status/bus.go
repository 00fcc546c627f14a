package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteBus shows how a bus spends its time: what the plan needs, what was
// measured, and which pump costs what.
func WriteBus(w io.Writer, b Bus, now time.Time) error {
	fmt.Fprintf(w, "%s on %s, %s\n", b.Name, b.Port, b.Mode)
	if !b.OK {
		fmt.Fprintf(w, "  %s, for %s\n", b.Problem, span(now.Sub(b.Since)))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  planned\t%s\tof the bus's time, when every pump answers\n", percent(b.Planned))
	fmt.Fprintf(t, "  measured\t%s\tin the last minute\n", percent(b.Occupancy))
	fmt.Fprintf(t, "  unanswered\t%s\tin the last minute, of 10 %% at most\n", percent(b.Dead))
	if b.Stretched > 1 {
		fmt.Fprintf(t, "  stretched\t× %.1f\tthe bus has not room for the profiles' periods\n", b.Stretched)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(b.Pumps) > 0 {
		fmt.Fprintln(w)
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  PUMP\tADDRESS\tFAMILY\tREPLY TIME\tLATE CYCLES\tSTATE")
		for _, p := range b.Pumps {
			state := "answers"
			if !p.OK {
				state = p.Problem
				if state == "" {
					state = "no answer yet"
				}
			}
			reply := "-"
			if p.ReplyTime > 0 {
				reply = fmt.Sprintf("%.1f ms", p.ReplyTime.Seconds()*1000)
			}
			fmt.Fprintf(t, "  %s\t%d\t%s\t%s\t%d\t%s\n", p.Name, p.Address, p.Family, reply, p.Dropped, state)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range counterMeanings {
		if n := b.Counters[c.name]; n > 0 || slices.Contains([]string{"requests", "answers"}, c.name) {
			fmt.Fprintf(t, "  %d\t%s\n", n, c.meaning)
		}
	}
	return t.Flush()
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// counterMeanings are a bus's counters in the order of a conversation.
var counterMeanings = []struct{ name, meaning string }{
	{"requests", "requests sent"},
	{"answers", "sound answers"},
	{"exceptions", "refusals by a pump (exceptions)"},
	{"timeouts", "requests without an answer"},
	{"corrupt", "damaged frames: check the wiring, and that no address is there twice"},
	{"cut", "answers cut off: check the direction control of the adapter"},
	{"foreign", "frames of somebody else: another master, or a late answer to it"},
	{"stale", "late or repeated answers, told apart and thrown away"},
	{"echoes", "echoes of our own requests"},
	{"noise_bytes", "bytes of noise between frames"},
	{"babble", "times that the line never fell silent"},
	{"vanished", "times that the serial port vanished"},
	{"opened", "times that the serial port was opened"},
	{"sent_bytes", "bytes sent"},
	{"received_bytes", "bytes received"},
}

// WritePump shows one pump of a snapshot, with all its values.
func WritePump(w io.Writer, s Snapshot, id string) error {
	var known []string
	for _, b := range s.Buses {
		for _, p := range b.Pumps {
			if p.ID == id {
				fmt.Fprintf(w, "\n%s", s.Time.Format(time.TimeOnly))
				p.write(w, s.Time)
				return nil
			}
			known = append(known, p.ID)
		}
	}
	return fmt.Errorf("the gateway has no pump %q; it has: %s", id, strings.Join(known, ", "))
}
