package pumpsim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"penstock/fieldbus"
	"penstock/fieldbus/pumpsim/fault"
	"penstock/fieldbus/pumpsim/geni"
)

// ConfigError is a mistake in the file of a line.
type ConfigError struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // where in the file, like "pumps[1].model"
	Err  error
}

// Error names file, line and key, what is wrong and what is allowed.
func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap is what is wrong, without the place.
func (e *ConfigError) Unwrap() error { return e.Err }

// ParseLine reads the YAML of a line. It is strict: the first unknown key,
// wrong type or impossible value is a *ConfigError. file is its name in errors.
func ParseLine(file string, text []byte) (c LineConfig, err error) {
	defer func() {
		if e, ok := recover().(*ConfigError); ok {
			c, err = LineConfig{}, e
		} else if e != nil {
			panic(e)
		}
	}()
	r := lineReader{file: file}
	body := r.document(text)
	r.keys(body, "", map[string]lineField{
		"link":       r.text(&c.Link, "the path of a link", func(s string) error { return nil }),
		"mode":       r.text(&c.Mode, `speed and format, such as "19200 8E1"`, func(s string) error { _, err := fieldbus.ParseMode(s); return err }),
		"protocol":   r.text((*string)(&c.Protocol), "modbus or genibus", knownProtocol),
		"turnaround": r.duration(&c.Turnaround),
		"seed":       r.number(func(v int64) error { c.Seed = v; return nil }),
		"faults":     r.text(&c.Faults, "faults, such as late=0.01:300ms,flip=0.02", func(s string) error { _, err := fault.Parse(s); return err }),
		"pumps":      r.list(func(n ast.Node, at string) { c.Pumps = append(c.Pumps, r.pump(n, at, c.Pumps)) }),
		"scenario":   r.list(func(n ast.Node, at string) { c.Scenario = append(c.Scenario, r.step(n, at)) }),
	}, "pumps")
	if err := c.fits(); err != nil {
		r.fail(body, "", "%w", err)
	}
	for i, s := range c.Scenario {
		if !slices.ContainsFunc(c.Pumps, func(p PumpConfig) bool { return p.Address == s.Pump }) {
			r.fail(body, fmt.Sprintf("scenario[%d].pump", i), "there is no pump at address %d", s.Pump)
		}
	}
	return c, nil
}

func knownProtocol(s string) error {
	if p := Protocol(s); p != Modbus && p != GENIbus {
		return errors.New("there is no such protocol")
	}
	return nil
}

// fits tells whether the pumps can be on a line of its protocol.
func (c LineConfig) fits() error {
	c.Link, c.Scenario = "", nil
	_, err := NewLine(c, Options{Clock: stopped{}})
	return err
}

// stopped is a clock for a line that is only tried.
type stopped struct{}

func (stopped) Now() time.Time                                   { return time.Time{} }
func (stopped) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
func (stopped) AdvanceTo(time.Time)                              {}

// lineReader walks the YAML tree. It panics with the *ConfigError of the first
// mistake, which ParseLine returns.
type lineReader struct{ file string }

type lineField func(n ast.Node, at string)

func (r lineReader) fail(n ast.Node, at, format string, args ...any) {
	e := &ConfigError{File: r.file, Key: at, Err: fmt.Errorf(format, args...)}
	if n != nil && n.GetToken() != nil {
		e.Line = n.GetToken().Position.Line
	}
	panic(e)
}

// place finds the line in "[3:5] message", which is how the parser says it.
var place = regexp.MustCompile(`^\[(\d+):\d+\] (.*)`)

func (r lineReader) document(text []byte) (body ast.Node) {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		message, _, _ := strings.Cut(err.Error(), "\n")
		e := &ConfigError{File: r.file, Err: fmt.Errorf("this is not YAML: %s", message)}
		if m := place.FindStringSubmatch(message); m != nil {
			e.Line, _ = strconv.Atoi(m[1]) // digits, by the pattern
			e.Err = fmt.Errorf("this is not YAML: %s", m[2])
		}
		panic(e)
	}
	for _, d := range tree.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType:
		case body != nil:
			r.fail(d.Body, "", "a second document; one file holds one line")
		default:
			body = d.Body
		}
	}
	if body == nil {
		r.fail(nil, "", "the file is empty")
	}
	return body
}

func (r lineReader) keys(n ast.Node, at string, fields map[string]lineField, required ...string) {
	allowed := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.fail(n, at, "keys are expected here: %s", allowed)
	}
	below := func(key string) string { return strings.TrimPrefix(at+"."+key, ".") }
	seen := map[string]bool{}
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		read, ok := fields[key]
		switch {
		case !ok:
			r.fail(p.Key, below(key), "unknown key; allowed here: %s", allowed)
		case seen[key]:
			r.fail(p.Key, below(key), "this key stands twice")
		}
		seen[key] = true
		read(p.Value, below(key))
	}
	for _, key := range required {
		if !seen[key] {
			r.fail(n, below(key), "this key is required")
		}
	}
}

func (r lineReader) list(each lineField) lineField {
	return func(n ast.Node, at string) {
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fail(n, at, "a list is expected: lines that start with \"- \", or [a, b]")
		}
		for i, v := range seq.Values {
			each(v, fmt.Sprintf("%s[%d]", at, i))
		}
	}
}

// value reads a plain value by a function whose error says what is wrong.
func (r lineReader) value(allowed string, parse func(string) error) lineField {
	return func(n ast.Node, at string) {
		switch n.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		default:
			r.fail(n, at, "allowed: %s", allowed)
		}
		if s := n.GetToken().Value; parse(s) != nil {
			r.fail(n, at, "%q is not allowed: %w; allowed: %s", s, parse(s), allowed)
		}
	}
}

func (r lineReader) text(dst *string, allowed string, check func(string) error) lineField {
	return r.value(allowed, func(s string) error { *dst = s; return check(s) })
}

func (r lineReader) number(set func(int64) error) lineField {
	return r.value("a whole number", func(s string) error {
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return fmt.Errorf("not a number")
		}
		return set(v)
	})
}

func (r lineReader) duration(dst *time.Duration) lineField {
	return r.value("a time such as 250ms, 20s or 2m", func(s string) (err error) {
		if *dst, err = time.ParseDuration(s); err == nil && *dst < 0 {
			err = fmt.Errorf("less than nothing")
		}
		return err
	})
}

func (r lineReader) boolean(dst *bool) lineField {
	return r.value("true or false", func(s string) error {
		if *dst = s == "true"; !*dst && s != "false" {
			return fmt.Errorf("neither of the two")
		}
		return nil
	})
}

func (r lineReader) address(dst *int, taken []PumpConfig) lineField {
	return r.number(func(v int64) error {
		switch {
		case v < 1 || v > 247:
			return fmt.Errorf("use an address from 1 to 247")
		case v != geni.LastAddress && slices.ContainsFunc(taken, func(p PumpConfig) bool { return int64(p.Address) == v }):
			return fmt.Errorf("another pump has this address")
		}
		*dst = int(v)
		return nil
	})
}

func (r lineReader) pump(n ast.Node, at string, others []PumpConfig) (p PumpConfig) {
	r.keys(n, at, map[string]lineField{
		"address": r.address(&p.Address, others),
		"model":   r.text(&p.Model, strings.Join(Models(), ", "), func(s string) error { _, err := findModel(s); return err }),
		"other":   r.text(&p.Other, strings.Join(Models(), ", "), func(s string) error { _, err := findModel(s); return err }),
		"local":   r.boolean(&p.Local),
	}, "address")
	return p
}

func (r lineReader) step(n ast.Node, at string) (s Step) {
	r.keys(n, at, map[string]lineField{
		"at":    r.duration(&s.At),
		"pump":  r.address(&s.Pump, nil),
		"cause": r.text(&s.Cause, strings.Join(StepCauses(), ", "), func(c string) error { return Step{Cause: c}.validate() }),
		"for":   r.duration(&s.For),
		"every": r.duration(&s.Every),
	}, "at", "pump", "cause")
	if err := s.validate(); err != nil {
		r.fail(n, at, "%w", err)
	}
	return s
}
