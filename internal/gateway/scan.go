package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"

	"penstock/fieldbus/modbus"
	"penstock/fieldbus/profile"
)

// factoryAddress is where a module answers that nobody has given an address.
const factoryAddress = 231

// Scan asks every address of a line and says which answer, and what they are.
// It asks for unit family, type and version (registers 30 to 32); a device of
// another make refuses that, and has thereby answered, too.
func Scan(ctx context.Context, o LineOptions, w io.Writer) error {
	line, master, err := o.open()
	if err != nil {
		return err
	}
	defer line.Close()
	fmt.Fprintf(w, "asking the addresses 1 to 247 on %s at %s\n", o.Port, line.Mode())
	order := []int{factoryAddress}
	for a := 1; a <= 247; a++ {
		if a != factoryAddress {
			order = append(order, a)
		}
	}
	found, damaged := 0, 0
	for _, a := range order {
		if ctx.Err() != nil {
			break
		}
		var unit [3]uint16
		_, err := master.Read(ctx, modbus.Request{Address: byte(a), Start: 29, Count: len(unit)}, unit[:])
		var refused *modbus.Exception
		switch {
		case err == nil:
			found++
			name := "no family of ours; generic Modbus reads it"
			if p, ok := o.Families.Choose(profile.Modbus, int(unit[0]), int(unit[1]), int(unit[2])); ok {
				name = p.Name + ": " + p.Title
			}
			fmt.Fprintf(w, "%3d  family %d, type %d, version %d (%s)\n", a, unit[0], unit[1], unit[2], name)
		case errors.As(err, &refused):
			found++
			fmt.Fprintf(w, "%3d  answers, but has no unit family (%v)\n", a, refused)
		case errors.Is(err, modbus.ErrDamaged):
			damaged++
			fmt.Fprintf(w, "%3d  something came that is no sound answer; check speed, parity and wiring\n", a)
		case errors.Is(err, modbus.ErrNoAnswer):
		default:
			return err
		}
	}
	switch {
	case found == 0 && damaged == 0:
		return errors.New("nobody answers: check speed and parity, that A and B are not swapped, and that the pump's module has power")
	case found == 0:
		return errors.New("only noise: check speed and parity, and that A and B are not swapped")
	}
	fmt.Fprintf(w, "%d found\n", found)
	return nil
}
