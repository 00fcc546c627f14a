package tuf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxSize bounds a file of metadata.
const MaxSize = 256 << 10

// tree reads JSON into maps, slices and json.Number: one value, and nothing behind.
func tree(text []byte) (any, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the object")
	}
	return v, nil
}

// canonical appends the canonical form of a tree.
func canonical(out []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return fmt.Append(out, v), nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") || v == "-0" {
			return nil, fmt.Errorf("the number %s; signed metadata has whole numbers only", v)
		}
		return append(out, v...), nil
	case string:
		return quoted(out, v), nil
	case []any:
		out = append(out, '[')
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = canonical(out, e); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case map[string]any:
		out = append(out, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(quoted(out, k), ':')
			if out, err = canonical(out, v[k]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	}
	return nil, fmt.Errorf("a %T in JSON", v)
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func quoted(out []byte, s string) []byte {
	out = append(out, '"')
	out = append(out, escapes.Replace(s)...)
	return append(out, '"')
}
