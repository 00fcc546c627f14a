package profile

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"penstock/internal/strictyaml"
)

// Error is a mistake in a profile file. Its Key is like "points[3].scale".
type Error = strictyaml.Error

// reader walks a YAML tree and collects every mistake in it.
type reader struct {
	file string
	errs []error
}

// field reads the value of one key.
type field func(n ast.Node, path string)

func (r *reader) fail(n ast.Node, key, format string, args ...any) {
	r.errs = append(r.errs, strictyaml.At(r.file, n, key, format, args...))
}

// document parses a file of one document and returns its body.
func (r *reader) document(text []byte) ast.Node {
	body, err := strictyaml.Document(r.file, text, "one pump family")
	switch {
	case err != nil:
		r.errs = append(r.errs, err)
	case body == nil:
		r.fail(nil, "", "the file is empty")
	}
	return body
}

// mapping reads a mapping whose keys are known.
func (r *reader) mapping(n ast.Node, path string, fields map[string]field, required ...string) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.fail(n, path, "keys are expected here: %s", keys(fields))
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		at := join(path, key)
		f, ok := fields[key]
		switch {
		case !ok:
			r.fail(p.Key, at, "unknown key; allowed here: %s", keys(fields))
		case seen[key]:
			r.fail(p.Key, at, "this key stands twice")
		default:
			f(p.Value, at)
		}
		seen[key] = true
	}
	for _, key := range required {
		if !seen[key] {
			r.fail(n, join(path, key), "this key is required")
		}
	}
}

func (r *reader) list(each func(n ast.Node, path string)) field {
	return func(n ast.Node, path string) {
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fail(n, path, "a list is expected: lines that start with \"- \", or [a, b]")
			return
		}
		for i, v := range seq.Values {
			each(v, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// scalar is the text of a plain value.
func (r *reader) scalar(n ast.Node, path, allowed string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), true
	}
	r.fail(n, path, "allowed: %s", allowed)
	return "", false
}

// parsed reads a plain value by a function whose error says what is allowed.
func (r *reader) parsed(allowed string, parse func(string) error) field {
	return func(n ast.Node, path string) {
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		if err := parse(s); err != nil {
			if allowed != "" {
				err = fmt.Errorf("%w; allowed: %s", err, allowed)
			}
			r.fail(n, path, "%w", err)
		}
	}
}

func (r *reader) text(dst *string, longest int) field {
	return r.parsed(fmt.Sprintf("a text of 1 to %d characters", longest), func(s string) error {
		if s == "" || len(s) > longest || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' }) {
			return fmt.Errorf("%q is not allowed", s)
		}
		*dst = s
		return nil
	})
}

func (r *reader) boolean(dst *bool) field {
	return r.parsed("true or false", func(s string) error {
		if s != "true" && s != "false" {
			return fmt.Errorf("%q is not allowed", s)
		}
		*dst = s == "true"
		return nil
	})
}

func (r *reader) integer(dst *int, low, high int) field {
	return integer(r, dst, low, high)
}

// integer reads a whole number into a type that may be wider than int, which has
// 32 bits on the gateway.
func integer[T int | int64](r *reader, dst *T, low, high T) field {
	return r.parsed(fmt.Sprintf("a whole number from %d to %d", low, high), func(s string) error {
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil || v < int64(low) || v > int64(high) {
			return fmt.Errorf("%s is not allowed", s)
		}
		*dst = T(v)
		return nil
	})
}

func (r *reader) oneOfInts(dst *int, of ...int) field {
	var words []string
	for _, v := range of {
		words = append(words, strconv.Itoa(v))
	}
	return r.parsed(strings.Join(words, " or "), func(s string) error {
		v, err := strconv.Atoi(s)
		if err != nil || !slices.Contains(of, v) {
			return fmt.Errorf("%s is not allowed", s)
		}
		*dst = v
		return nil
	})
}

func (r *reader) duration(dst *time.Duration, low, high time.Duration) field {
	return r.parsed(fmt.Sprintf("a duration from %v to %v in whole milliseconds, such as 250ms or 10s", low, high), func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < low || d > high || d%time.Millisecond != 0 {
			return fmt.Errorf("%s is not allowed", s)
		}
		*dst = d
		return nil
	})
}

// span reads "201-225" or a single number.
func (r *reader) span(first, last *int, low, high int, unit string) field {
	return r.parsed(fmt.Sprintf("a range of %s from %d to %d, such as %d-%d", unit, low, high, low, low+9), func(s string) error {
		a, b, found := strings.Cut(s, "-")
		if !found {
			b = a
		}
		x, err := strconv.Atoi(strings.TrimSpace(a))
		y, err2 := strconv.Atoi(strings.TrimSpace(b))
		if errors.Join(err, err2) != nil || x < low || y > high || x > y {
			return fmt.Errorf("%q is not allowed", s)
		}
		*first, *last = x, y
		return nil
	})
}

// rational reads a decimal number or a fraction, exactly.
func rational(s string) (*big.Rat, error) {
	// Exponents are refused: 1e999999999 is a short way to fill the memory.
	if strings.ContainsAny(s, "eEpPxX_") || len(s) > 30 {
		return nil, fmt.Errorf("%q is not a decimal number", s)
	}
	v, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, fmt.Errorf("%q is not a decimal number", s)
	}
	return v, nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keys(fields map[string]field) string {
	var k []string
	for key := range fields {
		k = append(k, key)
	}
	slices.Sort(k)
	return strings.Join(k, ", ")
}
