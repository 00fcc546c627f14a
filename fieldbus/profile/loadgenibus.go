package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

// speaks tells whether the body of a file names this protocol.
func speaks(body ast.Node, p Protocol) bool {
	m, ok := body.(*ast.MappingNode)
	if !ok {
		return false
	}
	for _, v := range m.Values {
		if v.Key.GetToken().Value == "protocol" && v.Value.GetToken() != nil {
			return v.Value.GetToken().Value == string(p)
		}
	}
	return false
}

// geniReader reads a GENIbus family.
type geniReader struct {
	*familyReader
	sure Confidence // of points and commands that do not say
}

var confidences = []string{"A", "B", "C", "D"}

// genibus reads the keys of a GENIbus family, in the order in which they depend
// on one another.
func (r *familyReader) genibus(n ast.Node) {
	r.p.Protocol, r.p.Numbering = Genibus, 0
	r.p.Line.Mode = fieldbus.Mode{Baud: 9600, Parity: fieldbus.NoParity, StopBits: 1}
	r.p.Line.Address = 231
	g := &geniReader{familyReader: r}
	order := []struct {
		key  string
		read field
	}{
		{"title", r.text(&r.p.Title, 120)},
		{"source", r.text(&r.p.Source, 2000)},
		{"protocol", r.word(new(string), string(Genibus))},
		{"match", r.list(r.match)},
		{"generation", r.parsed("first or later", func(s string) error {
			if s != "first" && s != "later" {
				return fmt.Errorf("%q is not allowed", s)
			}
			r.p.FirstUnits = s == "first"
			return nil
		})},
		{"confidence", r.word((*string)(&g.sure), confidences...)},
		{"period", r.duration(&r.period, 100*time.Millisecond, time.Hour)},
		{"points", r.list(g.point)},
		{"commands", r.list(g.command)},
	}
	fields, found := map[string]field{}, map[string]func(){}
	for _, f := range order {
		fields[f.key] = func(n ast.Node, path string) { found[f.key] = func() { f.read(n, path) } }
	}
	r.mapping(n, "", fields, "title", "source", "protocol", "confidence", "points")
	for _, f := range order {
		if read, ok := found[f.key]; ok {
			read()
		}
	}
	slices.SortStableFunc(r.p.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Period, b.Period), cmp.Compare(a.Geni.Class, b.Geni.Class), slices.Compare(a.Geni.IDs, b.Geni.IDs))
	})
	if len(r.p.Items) > maxItems {
		r.fail(n, "points", "%d points; a family holds up to %d", len(r.p.Items), maxItems)
	}
}

// word reads one of a few words.
func (r *reader) word(dst *string, of ...string) field {
	return r.parsed(strings.Join(of, ", "), func(s string) error {
		if !slices.Contains(of, s) {
			return fmt.Errorf("%q is not allowed", s)
		}
		*dst = s
		return nil
	})
}

func (r *geniReader) point(n ast.Node, path string) {
	g := &GeniItem{Class: 2, Confidence: r.sure}
	it := Item{Period: r.period, Geni: g, Block: -1}
	var name, scale, offset, factor string
	id, bytes := -1, 1
	var absent ast.Node
	absentPath := ""
	r.mapping(n, path, map[string]field{
		"point":      r.text(&name, 60),
		"class":      r.oneOfInts(&g.Class, 0, 1, 2, 4, 5, 11, 12, 13, 14),
		"id":         r.integer(&id, 0, 255),
		"bytes":      r.integer(&bytes, 1, 4),
		"bits":       r.bits(&it),
		"absent":     func(n ast.Node, path string) { absent, absentPath = n, path },
		"map":        r.codes(&it),
		"scale":      r.text(&scale, 60),
		"offset":     r.text(&offset, 60),
		"factor":     r.text(&factor, 60),
		"follows":    r.text(&g.Follows, 60),
		"alarm_bits": r.alarmBits(g),
		"period":     r.duration(&it.Period, 100*time.Millisecond, time.Hour),
		"confidence": r.word((*string)(&g.Confidence), confidences...),
		"uncertain":  r.text(&it.Uncertain, maxText),
	}, "point")
	known := false
	if it.Point, known = telemetry.LookupPoint(name); !known {
		r.fail(n, path+".point", "%q is not in the point vocabulary; the words are in docs/profiles.md", name)
		return
	}
	if _, taken := r.p.Item(name); taken {
		r.fail(n, path+".point", "%s stands twice", name)
		return
	}
	switch {
	case (id < 0) == (g.Alarms == nil):
		r.fail(n, path+".id", "give either an id or alarm_bits")
		return
	case g.Alarms != nil && (it.Point.Enum != "alarm_code" || it.Bits != nil || it.Map != nil || bytes > 1):
		r.fail(n, path+".alarm_bits", "alarm bits give an alarm or warning code, and need no other key")
		return
	case g.Alarms != nil:
		g.IDs = slices.Sorted(maps.Keys(g.Alarms))
	case id+bytes > 256 || bytes > 1 && GeniWidth(g.Class) > 1:
		r.fail(n, path+".bytes", "%d bytes from item %d of class %d; items end at 255, and a class of wider ones has one ID a value", bytes, id, g.Class)
		return
	default:
		for i := range bytes {
			g.IDs = append(g.IDs, byte(id+i))
		}
	}
	if it.Bits != nil && it.Bits.High >= 8*g.Bytes() {
		r.fail(n, path+".bits", "bit %d of %d", it.Bits.High, 8*g.Bytes())
	}
	it.Width = 8 * g.Bytes()
	if absent != nil {
		r.absent(&it, absent, absentPath)
	}
	if it.Geni.Follows != "" {
		if _, ok := r.p.Item(g.Follows); !ok {
			r.fail(n, path+".follows", "%q is no point of this family that stands before this one", g.Follows)
		}
	}
	// A number without a unit needs no scale; any other's comes from the device,
	// unless the file knows better. Until the device has told it, it is not known.
	if g.Fixed = scale != "" || it.Point.Unit == "1"; g.Fixed {
		var err error
		if it.Scale, err = scaled(it.Point, scale, offset); err != nil {
			r.fail(n, path+".scale", "%w", err)
		}
	}
	if factor != "" {
		v, err := rational(factor)
		if err != nil || v.Sign() <= 0 || g.Fixed {
			r.fail(n, path+".factor", "a positive number such as 1/2, for a value whose scale the device tells")
			return
		}
		g.Factor = v
	}
	r.p.Items = append(r.p.Items, it)
}

// pairs yields the keys and values of a mapping whose keys are numbers.
func (r *geniReader) pairs(n ast.Node, path string, low, high int64, each func(key int64, value ast.Node, path string)) {
	var all []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		all = n.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{n}
	default:
		r.fail(n, path, "pairs are expected: a number, a colon, what it stands for")
		return
	}
	for _, p := range all {
		text := p.Key.GetToken().Value
		key, err := strconv.ParseInt(text, 0, 64)
		if err != nil || key < low || key > high {
			r.fail(p.Key, join(path, text), "%s is not allowed; allowed: a whole number from %d to %d", text, low, high)
			continue
		}
		each(key, p.Value, join(path, text))
	}
}

// alarmBits reads {64: [32, 40, 0, …]}: for each item the codes of its bits.
func (r *geniReader) alarmBits(g *GeniItem) field {
	return func(n ast.Node, path string) {
		g.Alarms = map[byte]Bits8{}
		r.pairs(n, path, 0, 255, func(id int64, value ast.Node, path string) {
			var bits Bits8
			count := 0
			r.list(func(n ast.Node, path string) {
				if count == len(bits) {
					r.fail(n, path, "a byte has eight bits")
					return
				}
				integer(&r.reader, &bits[count], 0, 255)(n, path)
				count++
			})(value, path)
			g.Alarms[byte(id)] = bits
		})
	}
}

// commandIDs reads one command of class 3 or a list of them.
func (r *geniReader) commandIDs(n ast.Node, path string) (ids []byte) {
	one := func(n ast.Node, path string) {
		v := 0
		r.integer(&v, 1, 255)(n, path)
		ids = append(ids, byte(v))
	}
	if n.Type() == ast.SequenceType {
		r.list(one)(n, path)
	} else {
		one(n, path)
	}
	return ids
}

func (r *geniReader) command(n ast.Node, path string) {
	g := &GeniCommand{Send: map[int64][]byte{}, Confidence: r.sure}
	c := Command{Bit: -1, Settle: 5 * time.Second, Geni: g}
	var send ast.Node
	r.mapping(n, path, map[string]field{
		"command":    r.word(&c.Name, CommandNames...),
		"send":       func(n ast.Node, _ string) { send = n },
		"reference":  r.integer(&g.Reference, 1, 255),
		"remote":     r.boolean(&c.Remote),
		"read_back":  r.text(&c.ReadBack, 60),
		"settle":     r.duration(&c.Settle, 0, time.Minute),
		"confidence": r.word((*string)(&g.Confidence), confidences...),
		"uncertain":  r.text(&c.Uncertain, maxText),
	}, "command", "read_back")
	if _, taken := r.p.Command(c.Name); taken {
		r.fail(n, path+".command", "%s stands twice", c.Name)
		return
	}
	back, ok := r.p.Item(c.ReadBack)
	if !ok {
		r.fail(n, path+".read_back", "%q is no point of this family", c.ReadBack)
		return
	}
	if _, ok := r.p.Item("access"); c.Remote && !ok {
		r.fail(n, path+".remote", "the family has no point \"access\" that tells remote from local")
	}
	point, _ := telemetry.LookupPoint(c.Name)
	c.Pulse = c.Name == "reset_alarm"
	switch {
	case (send == nil) == (g.Reference == 0):
		r.fail(n, path, "give either send, commands of class 3, or reference, an item of class 5")
		return
	case c.Pulse && send != nil:
		g.Send[1] = r.commandIDs(send, path+".send")
	case point.Enum != "" && send != nil:
		r.pairs(send, path+".send", 0, 65535, func(value int64, n ast.Node, path string) { g.Send[value] = r.commandIDs(n, path) })
		c.Value = Value{Enum: point.Enum, Allowed: slices.Sorted(maps.Keys(g.Send))}
	case point.Unit == "%" && g.Reference != 0 && back.Point.Unit == "%":
		// A reference counts 254 steps from 0 to 100 % (GENIbus Protocol
		// Specification, reference values).
		scale, err := scaled(point, "100/254 %", "")
		if err != nil {
			r.fail(n, path, "%w", err)
		}
		c.Value = Value{Unit: "%", Scale: scale, Min: 0, Max: 254}
		c.Tolerance = 1
	default:
		r.fail(n, path, "%s cannot be sent this way: words take send, a set-point in percent takes reference", c.Name)
		return
	}
	r.p.Commands = append(r.p.Commands, c)
}
