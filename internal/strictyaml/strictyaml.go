// Package strictyaml reads a YAML file that people write by hand into a tree, and
// names file, line and key of a mistake in it.
//
// Files come from every kind of editor. The byte order mark that some put before
// UTF-8 is no part of the text. Bytes that are not UTF-8 are a mistake with its
// place: taken as they are, they would become another name without a word.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is a mistake in a file.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // where in the file, like "points[3].scale"
	Err  error
}

func (e *Error) Error() string {
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

func (e *Error) Unwrap() error { return e.Err }

// At returns a mistake at a node of the tree; nil is the file as a whole.
func At(file string, n ast.Node, key, format string, args ...any) *Error {
	e := &Error{File: file, Key: key, Err: fmt.Errorf(format, args...)}
	if n != nil && n.GetToken() != nil {
		e.Line = n.GetToken().Position.Line
	}
	return e
}

// Document returns the body of a file of one document, or nil of an empty one.
// holds says what one file holds, such as "one pump family". An error is an *Error.
func Document(file string, text []byte, holds string) (ast.Node, error) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if err := encoded(file, text); err != nil {
		return nil, err
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntax(file, err)
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, At(file, doc.Body, "", "a second document; one file holds %s", holds)
		default:
			body = doc.Body
		}
	}
	return body, nil
}

// encoded returns the first place that is not UTF-8 as a mistake.
func encoded(file string, text []byte) error {
	for _, utf16 := range []string{"\xFF\xFE", "\xFE\xFF"} {
		if bytes.HasPrefix(text, []byte(utf16)) {
			return &Error{File: file, Line: 1, Err: errors.New("this is UTF-16; save the file as UTF-8")}
		}
	}
	for line, column, rest := 1, 1, text; len(rest) > 0; column++ {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			return &Error{File: file, Line: line, Err: fmt.Errorf("column %d: the byte 0x%02X is not UTF-8; save the file as UTF-8", column, rest[0])}
		}
		if r == '\n' {
			line, column = line+1, 0
		}
		rest = rest[n:]
	}
	return nil
}

var syntaxPlace = regexp.MustCompile(`^\[(\d+):\d+\] (.*)`)

// syntax turns the parser's "[3:5] message\n   source" into an *Error.
func syntax(file string, err error) error {
	msg, _, _ := strings.Cut(err.Error(), "\n")
	line := 0
	if m := syntaxPlace.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	return &Error{File: file, Line: line, Err: errors.New("this is not YAML: " + msg)}
}
