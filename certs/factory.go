package certs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"

	"penstock/certs/pki"
	"penstock/internal/disk"
)

// Factory is factory.json: what a gateway is, decided at the bench.
type Factory struct {
	Serial  string `json:"serial"`
	Model   string `json:"model"`
	Board   string `json:"board"`
	AuthURL string `json:"auth_url"`
}

// Check tells whether there can be such a gateway; the error names the fault.
func (f Factory) Check() error {
	if err := pki.CheckSerial(f.Serial); err != nil {
		return fmt.Errorf("serial: %w", err)
	}
	if err := pki.CheckModel(f.Model); err != nil {
		return err
	}
	if err := pki.CheckBoard(f.Board); err != nil {
		return fmt.Errorf("board: %w", err)
	}
	if err := checkAuthURL(f.AuthURL); err != nil {
		return fmt.Errorf("auth_url: %w", err)
	}
	return nil
}

func checkAuthURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q is not allowed; allowed: https://HOST or https://HOST:PORT", s)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q: port %s is not between 1 and 65535", s, p)
		}
	}
	return nil
}

func loadFactory(fsys disk.FS, dir string) (f Factory, err error) {
	name := filepath.Join(dir, factoryFile)
	text, err := disk.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%s is not there: %w", name, ErrNotProvisioned)
	}
	if err != nil {
		return f, err
	}
	if err := parseFactory(text, &f); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// parseFactory reads factory.json strictly: one object, known fields, possible
// values.
func parseFactory(text []byte, f *Factory) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil {
		line := 1 + bytes.Count(text[:dec.InputOffset()], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is something after the object")
	}
	return f.Check()
}
