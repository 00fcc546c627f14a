package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"

	"penstock/fieldbus"
	"penstock/fieldbus/genibus"
	"penstock/fieldbus/profile"
	"penstock/internal/clock"
)

// anyGenibus reads a unit that no family matches.
const anyGenibus = "geni-generic"

// ScanGenibus finds the units of a GENIbus by connection requests, and says what
// they are; with verbose, also which points their family has and how each is
// known. It takes 25 seconds: a unit that somebody polled just before answers no
// sooner.
func ScanGenibus(ctx context.Context, o LineOptions, verbose bool, w io.Writer) error {
	line := fieldbus.NewLine(o.Port, genibusMode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return err
	}
	defer line.Close()
	fmt.Fprintf(w, "asking for GENIbus units on %s at %s, for %v\n", o.Port, genibusMode, genibus.DiscoverTime)
	master := genibus.NewMaster(line, clock.System, 1)
	found, err := master.Discover(ctx, []byte{genibus.FactoryAddress, genibus.FirstSlave}, genibus.DiscoverTime, func(id genibus.Identity) {
		showUnit(w, o.Families, id, verbose)
	})
	var other *genibus.OtherMasterError
	if errors.As(err, &other) {
		return fmt.Errorf("%w, then scan again", other)
	}
	if err != nil {
		return err
	}
	for _, a := range found.Duplicates {
		fmt.Fprintf(w, "%3d  two or more units seem to have this address; take all but one off, and give each its own\n", a)
	}
	if len(found.Units)+len(found.Duplicates) == 0 {
		if found.Collisions > 0 {
			return errors.New("only damaged answers: check the wiring, and that A and B are not swapped")
		}
		return errors.New("no GENIbus unit answers: check the wiring, and that the pumps have power")
	}
	fmt.Fprintf(w, "%d found\n", len(found.Units))
	if found.Unresolved {
		fmt.Fprintln(w, "answers collided to the end: there are more units than could be told apart; take those that were found off the line, and scan again")
	}
	return nil
}

// genibusMode is the one that there is.
var genibusMode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}

// SetAddress gives a GENIbus unit another address, and makes sure that it has it.
func SetAddress(ctx context.Context, o LineOptions, from, to byte, w io.Writer) error {
	line := fieldbus.NewLine(o.Port, genibusMode, fieldbus.OpenSerial, clock.System)
	if err := line.Open(); err != nil {
		return err
	}
	defer line.Close()
	if err := genibus.NewMaster(line, clock.System, 1).SetAddress(ctx, from, to); err != nil {
		return err
	}
	fmt.Fprintf(w, "the unit that was at %d answers at %d\n", from, to)
	return nil
}

// familyOf is the family that reads a unit; generic when none matches.
func familyOf(l *profile.Library, id genibus.Identity) (p *profile.Profile, known bool) {
	if p, known = l.Choose(profile.Genibus, int(id.Family), int(id.Type), int(id.Version)); !known {
		p, _ = l.Lookup(anyGenibus)
	}
	return p, known
}

func showUnit(w io.Writer, l *profile.Library, id genibus.Identity, verbose bool) {
	p, known := familyOf(l, id)
	name := p.Name + ": " + p.Title
	if !known {
		name = "no family of ours; " + p.Name + " reads what families share"
	}
	fmt.Fprintf(w, "%3d  family %d, type %d, version %d (%s)", id.Address, id.Family, id.Type, id.Version, name)
	for _, text := range []string{id.Name, id.Serial} {
		if text != "" {
			fmt.Fprintf(w, " %q", text)
		}
	}
	fmt.Fprintln(w)
	if !verbose {
		return
	}
	fmt.Fprintf(w, "     buffer %d bytes, group %d; facts from: %s\n", id.Buffer, id.Group, p.Source)
	for _, it := range p.Items {
		fmt.Fprintf(w, "     %-24s class %d, item %d  %s: %s", it.Point.Name, it.Geni.Class, it.Geni.IDs[0], it.Geni.Confidence, it.Geni.Confidence.Text())
		if it.Uncertain != "" {
			fmt.Fprintf(w, "; uncertain: %s", it.Uncertain)
		}
		fmt.Fprintln(w)
	}
	for _, c := range p.Commands {
		fmt.Fprintf(w, "     command %-16s %s: %s\n", c.Name, c.Geni.Confidence, c.Geni.Confidence.Text())
	}
}
