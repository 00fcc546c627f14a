package gateway

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// columns are those of a manifest.
var columns = []string{"serial", "model", "board", "auth", "image", "partition", "state"}

// ReadManifest reads the manifest of a batch: CSV, as spreadsheets write it, with the
// names of the columns in the first line and one gateway in each of the others. What a
// line leaves out is as in usual. A key is made where it stays, so that every gateway
// has a place of its own: an image, or a state folder. Names of files are relative to
// the manifest.
//
// Everything that can be seen to be wrong is told with line and column, before
// anything is made.
func ReadManifest(name string, usual Provisioning) (all []Provisioning, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readManifest(f, name, usual)
}

func readManifest(from io.Reader, name string, usual Provisioning) (all []Provisioning, err error) {
	r := csv.NewReader(from)
	r.TrimLeadingSpace, r.Comment = true, '#'
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty; its first line names the columns: %s", name, strings.Join(columns, ","))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, column := range header {
		column = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(column, "\uFEFF"))) // spreadsheets begin with a mark
		if !slices.Contains(columns, column) {
			return nil, fmt.Errorf("%s:1: there is no column %q; there are %s", name, column, strings.Join(columns, ", "))
		}
		if slices.Contains(header[:i], column) {
			return nil, fmt.Errorf("%s:1: the column %q is there twice", name, column)
		}
		header[i] = column
	}
	seen := map[string]int{}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		line, _ := r.FieldPos(0)
		p, column, err := entry(header, fields, usual, filepath.Dir(name))
		if err == nil {
			column, err = p.places(seen, line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", name, line, column, err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no gateway", name)
	}
	return all, nil
}

// entry reads a line; column is where an error is.
func entry(header, fields []string, usual Provisioning, dir string) (p Provisioning, column string, err error) {
	p = usual
	p.State = ""
	for i, column := range header {
		field := strings.TrimSpace(fields[i])
		if field == "" {
			continue
		}
		switch column {
		case "serial":
			p.Serial = field
		case "model":
			p.Model = field
		case "board":
			p.Board = field
		case "auth":
			p.AuthURL = field
		case "image":
			p.Image = inFolder(dir, field)
		case "state":
			p.State = field
		case "partition":
			if p.Partition, err = strconv.Atoi(field); err != nil || p.Partition < 1 {
				return p, column, fmt.Errorf("%q is not the number of a partition", field)
			}
		}
	}
	// The error says which fact is wrong; it is the column's name.
	if err := p.factory().Check(); err != nil {
		column, rest, _ := strings.Cut(err.Error(), ": ")
		return p, strings.TrimSuffix(column, "_url"), errors.New(rest)
	}
	switch {
	case p.Image == "" && p.State == "":
		return p, "image", errors.New("where is its key made? Each gateway has an image or a state folder of its own")
	case p.Image == "" && p.Partition != 0:
		return p, "partition", errors.New("a partition is of an image")
	case p.Image == "":
		p.State = inFolder(dir, p.State)
		p.Keys = "file" // never a key of this machine's TPM: the folder goes elsewhere
	default:
		if p.State == "" {
			p.State = usual.State
		}
		if !filepath.IsAbs(p.State) {
			return p, "state", fmt.Errorf("%q: the folder inside an image begins with /", p.State)
		}
		st, err := os.Stat(p.Image)
		if err != nil {
			return p, "image", err
		}
		if st.IsDir() {
			return p, "image", fmt.Errorf("%s is a folder", p.Image)
		}
	}
	return p, "", nil
}

func inFolder(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// places refuses what two lines have in common that must be one's own.
func (p Provisioning) places(seen map[string]int, line int) (column string, err error) {
	own := p.State
	column = "state"
	if p.Image != "" {
		own, column = p.Image, "image"
	}
	if own, err = filepath.Abs(own); err != nil {
		return column, err
	}
	if real, err := filepath.EvalSymlinks(own); err == nil {
		own = real
	}
	for _, c := range [][2]string{{"serial", p.Serial}, {column, own}} {
		key := c[0] + " " + c[1]
		if earlier, twice := seen[key]; twice {
			return c[0], fmt.Errorf("%s is in line %d already", c[1], earlier)
		}
		seen[key] = line
	}
	return "", nil
}
