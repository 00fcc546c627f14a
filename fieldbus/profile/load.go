package profile

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"penstock/fieldbus"
	"penstock/internal/telemetry"
)

// Limits of a file. They are far above what a pump needs.
const (
	maxItems     = 256
	maxBlocks    = 64
	maxRegisters = 125 // in one Modbus request
	maxText      = 400
)

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Parse reads one pump family. The file's base name without .yaml or .yml is the
// family's name. All mistakes are reported, joined; each is an *Error.
func Parse(file string, text []byte) (*Profile, error) {
	p := &Profile{Name: strings.TrimSuffix(strings.TrimSuffix(path.Base(file), ".yaml"), ".yml"), Numbering: 1}
	r := &familyReader{reader: reader{file: file}, p: p, period: 10 * time.Second}
	if !nameRule.MatchString(p.Name) {
		r.fail(nil, "", "the file's name is the family's name; allowed: up to 32 of a-z, 0-9 and -, then .yaml")
	}
	if body := r.document(text); speaks(body, Genibus) {
		r.genibus(body)
	} else if body != nil {
		r.family(body)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return p, nil
}

// familyReader reads the keys of a family.
type familyReader struct {
	reader
	p      *Profile
	period time.Duration // of points that name none
	ones   *bool         // all bits set is a value in points that do not say; nil: in signed ones
}

// family reads the keys in the order in which they depend on one another,
// whatever their order in the file.
func (r *familyReader) family(n ast.Node) {
	nodes := map[string]struct {
		n    ast.Node
		path string
	}{}
	fields := map[string]field{}
	order := []struct {
		key  string
		read field
	}{
		{"title", r.text(&r.p.Title, 120)},
		{"source", r.text(&r.p.Source, 2000)},
		{"protocol", r.word(new(string), string(Modbus), string(Genibus))},
		{"numbering", r.oneOfInts(&r.p.Numbering, 0, 1)},
		{"match", r.list(r.match)},
		{"line", r.line},
		{"timing", r.timing},
		{"absent", r.parsed("none or ones", func(s string) error {
			if s != "none" && s != "ones" {
				return fmt.Errorf("%q is not allowed", s)
			}
			none := s == "none"
			r.ones = &none
			return nil
		})},
		{"period", r.duration(&r.period, 100*time.Millisecond, time.Hour)},
		{"blocks", r.list(r.block)},
		{"identity", r.identity},
		{"alive", r.alive},
		{"points", r.list(r.point)},
		{"commands", r.list(r.command)},
	}
	for _, f := range order {
		fields[f.key] = func(n ast.Node, path string) {
			nodes[f.key] = struct {
				n    ast.Node
				path string
			}{n, path}
		}
	}
	r.mapping(n, "", fields, "title", "blocks", "points")
	for _, f := range order {
		if at, ok := nodes[f.key]; ok {
			f.read(at.n, at.path)
		}
		if f.key == "blocks" {
			r.sortBlocks(nodes["blocks"].n)
		}
	}
	slices.SortStableFunc(r.p.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Period, b.Period), cmp.Compare(a.Register, b.Register))
	})
	if len(r.p.Items) > maxItems {
		r.fail(nodes["points"].n, "points", "%d points; a family holds up to %d", len(r.p.Items), maxItems)
	}
}

func (r *familyReader) match(n ast.Node, path string) {
	m := Match{}
	code := func(dst **int) field {
		return func(n ast.Node, path string) {
			v := 0
			r.integer(&v, 0, 255)(n, path)
			*dst = &v
		}
	}
	r.mapping(n, path, map[string]field{
		"family": r.integer(&m.Family, 0, 255), "type": code(&m.Type), "version": code(&m.Version),
	}, "family")
	r.p.Match = append(r.p.Match, m)
}

func (r *familyReader) line(n ast.Node, path string) {
	r.mapping(n, path, map[string]field{
		"mode": r.parsed("", func(s string) (err error) {
			r.p.Line.Mode, err = fieldbus.ParseMode(s)
			return err
		}),
		"address": r.integer(&r.p.Line.Address, 1, 247),
	})
}

func (r *familyReader) timing(n ast.Node, path string) {
	t := &r.p.Timing
	r.mapping(n, path, map[string]field{
		"reply_min":   r.duration(&t.ReplyMin, time.Millisecond, 10*time.Second),
		"reply_max":   r.duration(&t.ReplyMax, time.Millisecond, 15*time.Second),
		"quiet":       r.duration(&t.Quiet, time.Millisecond, time.Minute),
		"pause":       r.duration(&t.Pause, time.Millisecond, time.Second),
		"reply_delay": r.duration(&t.ReplyDelay, time.Millisecond, 10*time.Second),
	})
}

func (r *familyReader) identity(n ast.Node, path string) {
	id := &Identity{}
	r.p.Identity = id
	r.mapping(n, path, map[string]field{
		"family": r.register(&id.Family), "type": r.register(&id.Type),
		"version": r.register(&id.Version), "reply_delay": r.register(&id.ReplyDelay),
	}, "family")
}

func (r *familyReader) alive(n ast.Node, path string) {
	a := &Alive{Width: 16, Period: 5 * time.Second, Unchanged: 3}
	r.p.Alive = a
	r.mapping(n, path, map[string]field{
		"register": r.register(&a.Register), "width": r.oneOfInts(&a.Width, 16, 32),
		"period": r.duration(&a.Period, 100*time.Millisecond, time.Hour), "unchanged": r.integer(&a.Unchanged, 1, 100),
	}, "register")
	if a.Register != 0 {
		r.inBlock(n, path+".register", a.Register, a.Register+a.Width/16-1)
	}
}

func (r *familyReader) block(n ast.Node, path string) {
	b := Block{}
	repeat, step, base := 1, 0, 0
	r.mapping(n, path, map[string]field{
		"name":      r.text(&b.Name, 60),
		"registers": r.span(&b.First, &b.Last, r.p.Numbering, 65535, "registers"),
		"functions": func(n ast.Node, path string) {
			var of []int
			r.list(func(n ast.Node, path string) {
				var f int
				r.oneOfInts(&f, 1, 2, 3, 4)(n, path)
				of = append(of, f)
			})(n, path)
			switch {
			case len(of) > 1 && (slices.Contains(of, 1) || slices.Contains(of, 2)):
				r.fail(n, path, "coils (1) and discrete inputs (2) have numbers of their own: one function a block")
			case len(of) == 1 && of[0] == 1:
				b.Functions, base = Coils, firstCoil
			case len(of) == 1 && of[0] == 2:
				b.Functions, base = Discretes, firstDiscrete
			case len(of) == 1 && of[0] == 3:
				b.Functions = Holding
			case len(of) == 1 && of[0] == 4:
				b.Functions = Input
			}
		},
		"repeat": r.integer(&repeat, 1, 16),
		"step":   r.integer(&step, 1, 1000),
	}, "name", "registers")
	for i := range repeat {
		c := b
		c.Name = numbered(b.Name, i)
		c.First += i*step + base
		if c.Last += i*step + base; c.Last-base > 65535 {
			r.fail(n, path, "%q ends at %d; numbers end at 65535", c.Name, c.Last-base)
			return
		}
		r.p.Blocks = append(r.p.Blocks, c)
	}
}

// kind says of what a number is.
func kind(number int) string {
	switch {
	case number >= firstDiscrete:
		return "discrete input"
	case number >= firstCoil:
		return "coil"
	}
	return "register"
}

// printed is a number as the manual prints it.
func printed(number int) int { return number & 0xFFFF }

func (b Block) printed() string {
	text := fmt.Sprintf("%d-%d", printed(b.First), printed(b.Last))
	if k := kind(b.First); k != "register" {
		text = k + "s " + text
	}
	return text
}

// sortBlocks puts the blocks in order and sees that they are apart.
func (r *familyReader) sortBlocks(n ast.Node) {
	blocks := r.p.Blocks
	slices.SortStableFunc(blocks, func(a, b Block) int { return cmp.Compare(a.First, b.First) })
	if len(blocks) > maxBlocks {
		r.fail(n, "blocks", "%d blocks; a family holds up to %d", len(blocks), maxBlocks)
	}
	for i := 1; i < len(blocks); i++ {
		if a, b := blocks[i-1], blocks[i]; b.First <= a.Last {
			r.fail(n, "blocks", "%q (%s) and %q (%s) overlap", a.Name, a.printed(), b.Name, b.printed())
		}
	}
}

// register reads a printed register number that lies in a block.
func (r *familyReader) register(dst *int) field {
	return func(n ast.Node, path string) {
		v := 0
		before := len(r.errs)
		r.integer(&v, r.p.Numbering, 65535)(n, path)
		if len(r.errs) == before {
			*dst = v
			r.inBlock(n, path, v, v)
		}
	}
}

// inBlock finds the block that registers lie in.
func (r *familyReader) inBlock(n ast.Node, path string, first, last int) int {
	for i, b := range r.p.Blocks {
		if b.Contains(first, last) {
			return i
		}
	}
	var list []string
	for _, b := range r.p.Blocks {
		list = append(list, b.printed())
	}
	what := fmt.Sprintf("%s %d is", kind(first), printed(first))
	if last > first {
		what = fmt.Sprintf("registers %d and %d are", first, last)
	}
	if last > first+1 {
		what = fmt.Sprintf("registers %d to %d are", first, last)
	}
	r.fail(n, path, "%s in no block; blocks: %s", what, strings.Join(list, ", "))
	return -1
}

func (r *familyReader) point(n ast.Node, path string) {
	it := Item{Width: 16, Period: r.period}
	var absent ast.Node
	absentPath := ""
	var name, scale, offset string
	var float bool
	kinds := 0 // of numbers that are given
	repeat, step := 1, 0
	r.mapping(n, path, map[string]field{
		"point": r.text(&name, 60),
		"format": r.parsed("integer or float32", func(s string) error {
			if float = s == "float32"; !float && s != "integer" {
				return fmt.Errorf("%q is not allowed", s)
			}
			return nil
		}),
		"word_order": r.order(&it.LowFirst),
		"byte_order": r.order(&it.Swapped),
		"register":   r.numbered(&it.Register, &kinds, 0),
		"coil":       r.numbered(&it.Register, &kinds, firstCoil),
		"discrete":   r.numbered(&it.Register, &kinds, firstDiscrete),
		"width":      r.oneOfInts(&it.Width, 16, 32, 64),
		"signed":     r.boolean(&it.Signed),
		"scale":      r.text(&scale, 60),
		"offset":     r.text(&offset, 60),
		"bits":       r.bits(&it),
		"absent":     func(n ast.Node, path string) { absent, absentPath = n, path },
		"map":        r.codes(&it),
		"period":     r.duration(&it.Period, 100*time.Millisecond, time.Hour),
		"repeat":     r.integer(&repeat, 1, maxItems),
		"step":       r.integer(&step, 1, 1000),
		"uncertain":  r.text(&it.Uncertain, maxText),
	}, "point")
	if kinds != 1 {
		r.fail(n, path, "give the number of one register, coil or discrete input")
		return
	}
	if it.Register >= firstCoil {
		if it.Width != 16 || it.Signed || it.Bits != nil || float || it.LowFirst || it.Swapped || absent != nil || offset != "" || scale != "" {
			r.fail(n, path, "a %s is one bit: remove width, signed, bits, format, the orders, absent, scale and offset", kind(it.Register))
			return
		}
		it.Width, it.Signed = 1, false
	}
	if float && (it.Width != 32 || it.Signed || it.Bits != nil || it.Map != nil) {
		r.fail(n, path+".format", "float32 needs width: 32, and takes no signed, bits or map")
		return
	}
	if it.LowFirst && it.Width == 16 {
		r.fail(n, path+".word_order", "a value of one register has no order of words; remove this key, or give the width")
	}
	if it.Bits != nil && it.Bits.High >= it.Width {
		r.fail(n, path+".bits", "bit %d of a %d-bit value", it.Bits.High, it.Width)
		return
	}
	if it.Bits != nil && it.Signed {
		r.fail(n, path+".signed", "bits have no sign; remove one of the two keys")
		return
	}
	if float {
		var err error
		if it.Float, err = resolution(scale); err != nil {
			r.fail(n, path+".scale", "%w", err)
			return
		}
	}
	// -1 is a value like any other, unless the file says otherwise.
	it.OnesValid = it.Signed || it.Width == 1
	if r.ones != nil && it.Width > 1 {
		it.OnesValid = *r.ones
	}
	if absent != nil {
		r.absent(&it, absent, absentPath)
	}
	for i := range repeat {
		c := it
		c.Register += i * step
		known := false
		if c.Point, known = telemetry.LookupPoint(numbered(name, i)); !known {
			r.fail(n, path+".point", "%q is not in the point vocabulary; the words are in docs/profiles.md", numbered(name, i))
			return
		}
		var err error
		if c.Scale, err = scaled(c.Point, scale, offset); err != nil {
			r.fail(n, path+".scale", "%w", err)
			return
		}
		if c.Block = r.inBlock(n, path+".register", c.Register, c.Last()); c.Block < 0 {
			return
		}
		if _, taken := r.p.Item(c.Point.Name); taken {
			r.fail(n, path+".point", "%s stands twice", c.Point.Name)
			return
		}
		r.p.Items = append(r.p.Items, c)
	}
}

// numbered reads a printed number of a kind, which base stands for.
func (r *familyReader) numbered(dst, kinds *int, base int) field {
	return func(n ast.Node, path string) {
		*kinds++
		v := 0
		r.integer(&v, r.p.Numbering, 65535)(n, path)
		*dst = v + base
	}
}

// order reads which of the words, or of the bytes of a word, comes first.
func (r *familyReader) order(low *bool) field {
	return r.parsed("big (the high one first) or little (the low one first)", func(s string) error {
		if *low = s == "little"; !*low && s != "big" {
			return fmt.Errorf("%q is not allowed", s)
		}
		return nil
	})
}

// resolution is the size of the steps to which a floating-point number is rounded,
// in the unit in which the device counts.
func resolution(scale string) (*big.Rat, error) {
	if scale == "" {
		return nil, errors.New("say to what a float32 is rounded, and in which unit the device gives it, such as 0.001 bar")
	}
	step, _, err := quantity(scale)
	if err == nil && step.Sign() <= 0 {
		err = fmt.Errorf("%s: a float32 is rounded to steps greater than 0", scale)
	}
	return step, err
}

// scaled reads "0.01 K" and an offset like "-1 bar" into the point's unit.
func scaled(p telemetry.Point, scale, offset string) (telemetry.Scale, error) {
	if scale == "" {
		if p.Unit != "1" {
			return telemetry.Scale{}, fmt.Errorf("%s is in %q: say what a step of the register is, such as 0.1 %s", p.Name, p.Unit, p.Unit)
		}
		scale = "1"
	}
	step, unit, err := quantity(scale)
	if err != nil {
		return telemetry.Scale{}, err
	}
	if step.Sign() == 0 {
		return telemetry.Scale{}, errors.New("a step of 0 makes every value the same")
	}
	shift := new(big.Rat)
	if offset != "" {
		var u string
		if shift, u, err = quantity(offset); err != nil {
			return telemetry.Scale{}, err
		}
		if u != unit {
			return telemetry.Scale{}, fmt.Errorf("the offset is in %q and the scale in %q; use one unit", u, unit)
		}
	}
	return telemetry.NewScale(step, shift, unit, p.Unit)
}

// quantity reads a number with a unit, "0.01 K". A number alone has the unit 1.
func quantity(s string) (*big.Rat, string, error) {
	number, unit, found := strings.Cut(s, " ")
	if !found {
		unit = "1"
	}
	v, err := rational(number)
	return v, strings.TrimSpace(unit), err
}

// bits reads "8" or "0-7".
func (r *familyReader) bits(it *Item) field {
	return func(n ast.Node, path string) {
		b := Bits{}
		before := len(r.errs)
		r.span(&b.Low, &b.High, 0, 62, "bits")(n, path)
		if len(r.errs) == before {
			it.Bits = &b
		}
	}
}

// absent reads "none", "ones", or a list of values that mean "not available" as
// well. A value of a signed point may be written as a number or as its bits.
func (r *familyReader) absent(it *Item, n ast.Node, path string) {
	if n.Type() == ast.StringType {
		switch n.GetToken().Value {
		case "none":
			it.OnesValid = true
			return
		case "ones":
			it.OnesValid = false
			return
		}
	}
	if it.Float != nil {
		r.fail(n, path, "of a float32, what is no number is not available; remove this key")
		return
	}
	if n.Type() != ast.SequenceType {
		r.fail(n, path, "allowed: none, ones, or a list of raw values such as [0xFF]")
		return
	}
	width := it.Width
	if it.Bits != nil {
		width = it.Bits.High - it.Bits.Low + 1
	}
	low, high := int64(0), int64(math.MaxInt64)
	if width < 64 {
		high = 1<<width - 1
	}
	if it.Signed {
		low = -1 << (width - 1)
	}
	r.list(func(n ast.Node, path string) {
		var v int64
		integer(&r.reader, &v, low, high)(n, path)
		if it.Signed && width < 64 && v > high>>1 {
			v -= high + 1
		}
		it.Absent = append(it.Absent, v)
	})(n, path)
}

// codes reads a mapping of the device's codes to the vocabulary's.
func (r *familyReader) codes(it *Item) field {
	return func(n ast.Node, path string) {
		it.Map = map[int64]int64{}
		var pairs []*ast.MappingValueNode
		switch n := n.(type) {
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			r.fail(n, path, "pairs are expected: the device's code, a colon, the vocabulary's code")
			return
		}
		for _, p := range pairs {
			from, err := strconv.ParseInt(p.Key.GetToken().Value, 0, 64)
			if err != nil {
				r.fail(p.Key, path, "%q is not a whole number", p.Key.GetToken().Value)
				continue
			}
			var to int64
			integer(&r.reader, &to, -1<<31, 1<<32-1)(p.Value, join(path, p.Key.GetToken().Value))
			it.Map[from] = to
		}
	}
}

// numbered puts the number of a repetition, from 1, in the place of {n}, and
// from 0 in the place of {n0}.
func numbered(name string, i int) string {
	return strings.NewReplacer("{n}", strconv.Itoa(i+1), "{n0}", strconv.Itoa(i)).Replace(name)
}
