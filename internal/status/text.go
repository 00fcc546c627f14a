package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"penstock/internal/telemetry"
)

// Write shows a snapshot as one screen of text.
func Write(w io.Writer, s Snapshot) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

	line("Gateway\t%s, model %s, board %s", s.Gateway.Serial, s.Gateway.Model, s.Gateway.Board)
	line("Firmware\tpenstock %s, running for %s", s.Version, span(s.Time.Sub(s.Started)))
	line("Cloud\t%s", s.cloud())
	if s.Uplink.LastError != "" && s.Uplink.State != "connected" {
		line("\tlast trouble: %s", s.Uplink.LastError)
	}
	for _, l := range s.Links {
		line("Link\t%s", l.text(s.Time))
		for _, a := range l.Advice {
			line("\t%s", a)
		}
	}
	line("Queue\t%s", s.Queue.text(s.Time))
	if s.Queue.Problem != "" {
		line("\t%s", s.Queue.Problem)
	}
	for i, text := range s.Identity.lines(s.Time) {
		line("%s\t%s", []string{"Identity", ""}[min(i, 1)], text)
	}
	line("Keys\t%s", s.Keys)
	if s.Keys.Problem != "" {
		line("\t%s", s.Keys.Problem)
	}
	line("Trust\t%s", s.Trust.text())
	if s.Trust.Problem != "" {
		line("\t%s", s.Trust.Problem)
	}
	line("Clock\t%s", s.Clock.text())
	if len(s.Buses) == 0 && s.Search == "" {
		line("Buses\tnone: no bus is configured")
	}
	if s.Search != "" {
		line("Search\t%s", s.Search)
	}
	for _, b := range s.Buses {
		line("Bus\t%s", b.text(s.Time))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, b := range s.Buses {
		for _, p := range b.Pumps {
			p.write(w, s.Time)
		}
	}
	return nil
}

func (s Snapshot) cloud() string {
	since := span(s.Time.Sub(s.Uplink.Since))
	switch u := s.Uplink; {
	case u.State == "connected":
		return fmt.Sprintf("connected to %s for %s, %s acknowledged", u.Endpoint, since, count(u.Acknowledged, "record"))
	case u.Endpoint != "":
		return fmt.Sprintf("%s for %s, endpoint %s", u.State, since, u.Endpoint)
	default:
		return fmt.Sprintf("%s for %s, auth service %s", u.State, since, u.AuthURL)
	}
}

func (l Link) text(now time.Time) string {
	text := l.Name + ": "
	switch {
	case l.OK:
		text += "ok for " + span(now.Sub(l.Since))
	case l.Problem != "":
		text += "down for " + span(now.Sub(l.Since)) + ": " + l.Problem
	default:
		text += "down for " + span(now.Sub(l.Since))
	}
	if l.Current {
		text += ", in use"
	}
	used := bytesText(int64(min(l.Bytes, 1<<62)))
	switch {
	case l.Budget > 0:
		text += fmt.Sprintf("; %s of %s in %s", used, bytesText(l.Budget), l.Month)
	case l.Month != "":
		text += fmt.Sprintf("; %s in %s", used, l.Month)
	}
	return text
}

func (q Queue) text(now time.Time) string {
	var parts []string
	for _, l := range q.Lanes {
		part := fmt.Sprintf("%s %s", l.Name, count(l.Records, "record"))
		if l.Records > 0 {
			part += fmt.Sprintf(" (%s", bytesText(l.Bytes))
			if !l.Oldest.IsZero() {
				part += ", oldest " + span(now.Sub(l.Oldest))
			}
			part += ")"
		}
		if l.Dropped > 0 {
			part += fmt.Sprintf(", %d dropped", l.Dropped)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ") + "; room for " + bytesText(q.Limit)
}

func (t Trust) text() string {
	text := strings.Join(t.Roots, ", ")
	if !t.Until.IsZero() {
		text += " until " + t.Until.Format(time.DateOnly)
	}
	switch {
	case t.Fixed:
		text += "; never replaced: the identity has no tuf-root.json"
	case t.Version > 0:
		text += fmt.Sprintf(", signed, version %d", t.Version)
	}
	return text
}

func (c Clock) text() string {
	switch c.Source {
	case "", "system":
		text := "nobody has told the time yet; until then readings wait on disk, and commands are refused"
		if c.Problem != "" {
			text += " (" + c.Problem + ")"
		}
		return text
	case "signed":
		return fmt.Sprintf("told by the auth service, signed, %s ago", span(c.Age))
	case "machine":
		return "the machine's own, which an NTP service keeps"
	}
	return fmt.Sprintf("told by %s, %s ago", c.Source, span(c.Age))
}

// String says it in a line.
func (k Keys) String() string {
	switch k.Store {
	case "tpm":
		return "in the TPM"
	case "file":
		return "in a file: " + k.Because
	}
	return "none yet"
}

func (i Identity) lines(now time.Time) (lines []string) {
	switch {
	case i.NotAfter.IsZero():
		lines = append(lines, "factory identity only: no operational certificate yet")
	default:
		text := fmt.Sprintf("good until %s (%d days), issued by %s", i.NotAfter.Format(time.DateOnly), i.Days, i.Issuer)
		if i.Unproven {
			text += "; new, and not let in yet"
		}
		lines = append(lines, text)
	}
	if i.Problem != "" {
		lines = append(lines, i.Problem)
	}
	if !i.LastAttempt.IsZero() && i.LastError != "" {
		lines = append(lines, fmt.Sprintf("last attempt to get another %s ago: %s", span(now.Sub(i.LastAttempt)), i.LastError))
	}
	switch {
	case i.Why == "":
	case i.NextAttempt.IsZero():
		lines = append(lines, i.Why)
	case !i.NextAttempt.After(now):
		lines = append(lines, "asking for another now: "+i.Why)
	default:
		lines = append(lines, fmt.Sprintf("asks for another in %s: %s", span(i.NextAttempt.Sub(now)), i.Why))
	}
	if i.Factory.Problem != "" {
		lines = append(lines, "factory identity: "+i.Factory.Problem)
	}
	return lines
}

func (b Bus) text(now time.Time) string {
	head := fmt.Sprintf("%s on %s, %s: ", b.Name, b.Port, b.Mode)
	if !b.OK {
		return head + fmt.Sprintf("%s, for %s", b.Problem, span(now.Sub(b.Since)))
	}
	head += fmt.Sprintf("ok for %s, %.0f %% busy", span(now.Sub(b.Since)), 100*b.Occupancy)
	var names []string
	for name, n := range b.Counters {
		if n > 0 {
			names = append(names, fmt.Sprintf("%s %d", strings.ReplaceAll(name, "_", " "), n))
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		head += "; " + strings.Join(names, ", ")
	}
	return head
}

func (p Pump) write(w io.Writer, now time.Time) {
	state := "answers"
	if !p.OK {
		state = "no answer"
		if p.Problem != "" {
			state = p.Problem
		}
		if !p.LastGood.IsZero() {
			state += ", last good " + span(now.Sub(p.LastGood)) + " ago"
		}
	}
	if p.Refused > 0 {
		state += fmt.Sprintf("; refuses %d points for %s", p.Refused, span(now.Sub(p.RefusedSince)))
	}
	fmt.Fprintf(w, "\n%s  %s, address %d, %s: %s\n", p.ID, p.Name, p.Address, p.Family, state)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	const columns = 2
	rows := (len(p.Values) + columns - 1) / columns
	for r := range rows {
		for c := range columns {
			if i := c*rows + r; i < len(p.Values) {
				v := p.Values[i]
				fmt.Fprintf(t, "  %s\t%s\t", v.Point, v.Text())
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// Text is the value in words: the number with its unit, or why there is none.
func (v Value) Text() string {
	if v.Quality == telemetry.NotAvailable || v.Quality == telemetry.Missing {
		return v.Quality.String()
	}
	s := telemetry.Text(v.Enum, v.Unit, v.Scale, v.Raw)
	if v.Quality != telemetry.Good {
		s += " (" + v.Quality.String() + ")"
	}
	return s
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func bytesText(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// span is a duration as a person says it.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
