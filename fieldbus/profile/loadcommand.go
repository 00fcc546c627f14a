package profile

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"penstock/internal/telemetry"
)

func (r *familyReader) command(n ast.Node, path string) {
	c := Command{Bit: -1, Settle: 3 * time.Second}
	var scale, offset, least, most, tolerance string
	var allowed []int64
	kinds := 0 // of numbers that are given
	r.mapping(n, path, map[string]field{
		"command": r.parsed(strings.Join(CommandNames, ", "), func(s string) error {
			if !slices.Contains(CommandNames, s) {
				return fmt.Errorf("%q is not allowed", s)
			}
			c.Name = s
			return nil
		}),
		"register": r.target(&c, &kinds, 0),
		"coil":     r.target(&c, &kinds, firstCoil),
		"bit":      r.integer(&c.Bit, 0, 15),
		"keep": r.list(func(n ast.Node, path string) {
			bit := 0
			r.integer(&bit, 0, 15)(n, path)
			c.Keep = append(c.Keep, bit)
		}),
		"copy":      r.copied(&c),
		"pulse":     r.boolean(&c.Pulse),
		"remote":    r.boolean(&c.Remote),
		"scale":     r.text(&scale, 60),
		"offset":    r.text(&offset, 60),
		"min":       r.text(&least, 60),
		"max":       r.text(&most, 60),
		"tolerance": r.text(&tolerance, 60),
		"allowed": r.list(func(n ast.Node, path string) {
			v := 0
			r.integer(&v, 0, 65535)(n, path)
			allowed = append(allowed, int64(v))
		}),
		"read_back": r.parsed("a point of this family", func(s string) error {
			if _, ok := r.p.Item(s); !ok {
				return fmt.Errorf("%q is not allowed", s)
			}
			c.ReadBack = s
			return nil
		}),
		"settle":    r.duration(&c.Settle, 0, time.Minute),
		"uncertain": r.text(&c.Uncertain, maxText),
	}, "command")
	if kinds != 1 {
		r.fail(n, path, "give the number of one register or coil")
		return
	}
	if c.Name == "" {
		return
	}
	if _, taken := r.p.Command(c.Name); taken {
		r.fail(n, path+".command", "%s stands twice", c.Name)
	}
	if c.Pulse != (c.Name == "reset_alarm") {
		r.fail(n, path+".pulse", "reset_alarm is a pulse, and nothing else is")
		return
	}
	if (c.Pulse || len(c.Keep) > 0 || len(c.Copy) > 0) && c.Bit < 0 {
		r.fail(n, path+".bit", "a pulse, and bits to keep or copy, need a bit")
	}
	if c.Remote {
		if _, ok := r.p.Item("access"); !ok {
			r.fail(n, path+".remote", "the family has no point \"access\" that tells remote from local")
		}
	}
	point, _ := telemetry.LookupPoint(c.Name)
	if IsCoil(c.Register) && (c.Bit >= 0 || allowed != nil || point.Enum == "") {
		r.fail(n, path+".coil", "a coil takes off and on: it suits a command of two words, without bit and allowed")
		return
	}
	switch {
	case c.Pulse:
		r.unused(n, path, "a pulse takes no value", map[string]bool{"scale": scale != "", "offset": offset != "", "min": least != "", "max": most != "", "tolerance": tolerance != "", "allowed": allowed != nil})
	case point.Enum != "":
		r.unused(n, path, c.Name+" takes a word of an enumeration", map[string]bool{"scale": scale != "", "offset": offset != "", "min": least != "", "max": most != "", "tolerance": tolerance != ""})
		c.Value = Value{Enum: point.Enum, Allowed: allowed}
		if c.Bit >= 0 || IsCoil(c.Register) {
			c.Value.Allowed = []int64{0, 1}
		} else if len(allowed) == 0 {
			r.fail(n, path+".allowed", "list the codes that the pump takes")
		}
	default:
		r.unused(n, path, c.Name+" takes a number", map[string]bool{"allowed": allowed != nil, "bit": c.Bit >= 0})
		r.bounds(n, path, &c, point, scale, offset, least, most, tolerance)
	}
	r.p.Commands = append(r.p.Commands, c)
}

// target reads the number of what a command writes.
func (r *familyReader) target(c *Command, kinds *int, base int) field {
	return func(n ast.Node, path string) {
		*kinds++
		before, v := len(r.errs), 0
		if r.integer(&v, r.p.Numbering, 65535)(n, path); len(r.errs) == before {
			c.Register = v + base
			r.inBlock(n, path, c.Register, c.Register)
		}
	}
}

// unused reports keys that the kind of command has no use for.
func (r *familyReader) unused(n ast.Node, path, why string, given map[string]bool) {
	for _, key := range []string{"scale", "offset", "min", "max", "tolerance", "allowed", "bit"} {
		if given[key] {
			r.fail(n, path+"."+key, "%s; remove this key", why)
		}
	}
}

// bounds reads the scale and the limits of a number. The limits are given in
// the point's unit and kept as raw values.
func (r *familyReader) bounds(n ast.Node, path string, c *Command, point telemetry.Point, scale, offset, least, most, tolerance string) {
	s, err := scaled(point, scale, offset)
	if err != nil {
		r.fail(n, path+".scale", "%w", err)
		return
	}
	c.Value = Value{Unit: point.Unit, Scale: s}
	if tolerance != "" {
		v, unit, err := quantity(tolerance)
		if err != nil || unit != point.Unit || v.Sign() < 0 {
			r.fail(n, path+".tolerance", "the tolerance is a number with its unit, such as 0.5 %s", point.Unit)
			return
		}
		steps := new(big.Rat).Quo(v, s.Exact(1).Sub(s.Exact(1), s.Exact(0)))
		whole := new(big.Int).Quo(steps.Num(), steps.Denom())
		if !whole.IsInt64() || whole.Int64() > 0xFFFF || whole.Sign() < 0 {
			r.fail(n, path+".tolerance", "%s is more than the register holds", tolerance)
			return
		}
		c.Tolerance = whole.Int64()
	}
	for _, limit := range []struct {
		key, text string
		dst       *int64
	}{{"min", least, &c.Value.Min}, {"max", most, &c.Value.Max}} {
		v, unit, err := quantity(limit.text)
		if err != nil || unit != point.Unit {
			r.fail(n, path+"."+limit.key, "the limit is a number with its unit, such as 100 %s", point.Unit)
			return
		}
		raw, exact := s.Raw(v)
		if !exact || raw.Sign() < 0 || raw.Cmp(big.NewInt(0xFFFE)) > 0 {
			r.fail(n, path+"."+limit.key, "%s is %s steps of the register; a whole number from 0 to 65534 is allowed", limit.text, raw)
			return
		}
		*limit.dst = raw.Int64()
	}
	if c.Value.Min >= c.Value.Max {
		r.fail(n, path+".min", "%s is not below max, %s", least, most)
	}
}

// copied reads bits that follow a point, such as {1: running}.
func (r *familyReader) copied(c *Command) field {
	return func(n ast.Node, path string) {
		c.Copy = map[int]string{}
		var pairs []*ast.MappingValueNode
		switch n := n.(type) {
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			r.fail(n, path, "pairs are expected: a bit, a colon, a flag of this family")
			return
		}
		for _, p := range pairs {
			key := p.Key.GetToken().Value
			bit := 0
			r.integer(&bit, 0, 15)(p.Key, join(path, key))
			r.parsed("a flag of this family", func(s string) error {
				if it, ok := r.p.Item(s); !ok || it.Point.Kind != telemetry.Flag {
					return fmt.Errorf("%q is not allowed", s)
				}
				c.Copy[bit] = s
				return nil
			})(p.Value, join(path, key))
		}
	}
}
