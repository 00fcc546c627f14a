package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"penstock/fieldbus"
	"penstock/fieldbus/discover"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
)

// ScanOptions are a search of a line.
type ScanOptions struct {
	LineOptions
	OneMode bool // search at the mode of LineOptions only, not at all the usual ones
	Verbose bool // say what is not certain about the families that fit
}

// ScanBoth looks for Modbus devices as they come from the factory, then for
// GENIbus units, then for Modbus devices at all other settings: most people are
// done within a minute.
func ScanBoth(ctx context.Context, o ScanOptions, w io.Writer) error {
	if o.OneMode {
		return Scan(ctx, o, w)
	}
	err := scanModes(ctx, o, discover.Modes[:1], w)
	if err == nil || ctx.Err() != nil || errors.Is(err, discover.ErrInUse) || errors.As(err, new(*fieldbus.PortError)) {
		return err
	}
	fmt.Fprintf(w, "Modbus, factory settings: %v\n", err)
	if err = ScanGenibus(ctx, o.LineOptions, o.Verbose, w); err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(w, "GENIbus: %v\n", err)
	return scanModes(ctx, o, discover.Modes[1:], w)
}

// Scan finds the devices on a line and says what they are, with progress. An
// error says what is wrong with a line on which nobody was found.
func Scan(ctx context.Context, o ScanOptions, w io.Writer) error {
	if !o.OneMode {
		return scanModes(ctx, o, discover.Modes, w)
	}
	m, err := o.mode()
	if err != nil {
		return err
	}
	return scanModes(ctx, o, []fieldbus.Mode{m}, w)
}

func scanModes(ctx context.Context, o ScanOptions, modes []fieldbus.Mode, w io.Writer) error {
	line := fieldbus.NewLine(o.Port, modes[0], fieldbus.OpenSerial, clock.System)
	defer line.Close()
	said := teller{w: w, port: o.Port, library: o.Families, verbose: o.Verbose}
	r, err := discover.Run(ctx, discover.Config{Line: line, Library: o.Families, Modes: modes, Progress: said.progress,
		ReplyDelay: o.ReplyDelay, Pause: o.Pause})
	for _, remark := range r.Remarks {
		fmt.Fprintf(w, "note: %s\n", remark)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("given up after %v; %d found until then", r.Took.Round(time.Second), len(r.Devices))
	case err != nil:
		return err
	case len(r.Devices) == 0:
		return fmt.Errorf("nobody was found on %s in %v: %s", o.Port, r.Took.Round(time.Second), r.Trouble.Text())
	}
	if r.Trouble != fieldbus.NoTrouble {
		fmt.Fprintf(w, "note: %s\n", r.Trouble.Text())
	}
	fmt.Fprintf(w, "%d found in %v\n", len(r.Devices), r.Took.Round(time.Second))
	return nil
}

// teller says how far a search has come: a line for each mode, and for each
// device.
type teller struct {
	w         io.Writer
	port      string
	library   *profile.Library
	verbose   bool
	mode      fieldbus.Mode
	listening bool
}

func (t *teller) progress(p discover.Progress) {
	switch {
	case p.Found != nil:
		t.found(*p.Found)
	case p.Listening && !t.listening:
		fmt.Fprintf(t.w, "listening on %s for %v, so as not to disturb anybody; everything takes at most %v\n",
			t.port, discover.ListenTime, p.Left.Round(time.Second))
	case p.Listening && p.Mode != t.mode:
		fmt.Fprintf(t.w, "something was heard; listening at %s\n", p.Mode)
	case !p.Listening && (p.Mode != t.mode || t.listening):
		fmt.Fprintf(t.w, "asking at %s, from address %d on; at most %v left\n", p.Mode, p.Address, p.Left.Round(time.Second))
	}
	t.listening, t.mode = p.Listening, p.Mode
}

func (t *teller) found(d discover.Device) {
	text := fmt.Sprintf("%3d  ", d.Address)
	if d.Identified {
		text += fmt.Sprintf("family %d, type %d, version %d", d.Family, d.Type, d.Version)
	} else {
		text += "a Modbus device"
	}
	p, known := t.library.Lookup(d.Profile)
	if known {
		text += fmt.Sprintf(": %s (%s)", p.Name, p.Title)
	}
	if d.ReplyDelay > 0 {
		text += fmt.Sprintf("; waits %v before it answers", d.ReplyDelay)
	}
	if d.Remark != "" {
		text += "; " + d.Remark
	}
	fmt.Fprintln(t.w, text)
	if !t.verbose || !known {
		return
	}
	for _, it := range p.Items {
		if it.Uncertain != "" {
			fmt.Fprintf(t.w, "     not certain: %s, register %d: %s\n", it.Point.Name, it.Register, it.Uncertain)
		}
	}
	for _, c := range p.Commands {
		if c.Uncertain != "" {
			fmt.Fprintf(t.w, "     not certain: command %s, register %d: %s\n", c.Name, c.Register, c.Uncertain)
		}
	}
}
