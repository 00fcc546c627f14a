// Package config reads the gateway's configuration file.
//
// The file is optional and plain YAML. Reading is strict: an unknown key, a
// wrong type or an impossible value is an error that names file, line and key
// and says what is allowed. Nothing is guessed, and nothing half-read is used.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"penstock/internal/strictyaml"
)

// DefaultFile is where the firmware looks when -config is not given.
const DefaultFile = "/etc/penstock/config.yaml"

// LeastQueue is the least queue_limit: eight of the queue's segments.
const LeastQueue = 2 << 20

// Config is what an installer may set.
type Config struct {
	ReportEvery time.Duration // a block is sealed this often
	QueueLimit  int64         // bytes of readings kept while the endpoint is away
	Links       []Link        // the most preferred first; none: where the machine routes
	Buses       []Bus
	TimeServers []string // NTP; none are needed, since the auth service tells the time
}

// Bus is one serial line.
type Bus struct {
	Name     string
	Port     string // e.g. /dev/ttyUSB0
	Protocol string // "modbus" or "genibus"
	Speed    int    // bit/s
	Parity   string // "none", "even" or "odd"
	StopBits int
	Pumps    []Pump
}

// LongestReplyDelay and LongestPause are the most that a device may be said to
// need; the first is the most that a CIM module can be set to.
const (
	LongestReplyDelay = 10 * time.Second
	LongestPause      = time.Second
)

// Pump is one device on a bus.
type Pump struct {
	Address int
	Name    string
	Profile string
	// ReplyDelay is what the module was set to wait before each answer; 0: nothing
	// that its profile does not know.
	ReplyDelay time.Duration
	// Pause is how long the device has to be left alone after each answer; 0:
	// nothing that its profile does not know.
	Pause time.Duration
}

// Default is the configuration of a gateway without a file.
func Default() Config {
	return Config{ReportEvery: time.Minute, QueueLimit: 256 << 20}
}

// Speeds are the bit rates that a bus may have.
var Speeds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

// Error is a mistake in the file.
type Error = strictyaml.Error

// Load reads a file. profiles are the pump families that exist.
// A missing file is the default configuration unless it was asked for by name.
func Load(file string, named bool, profiles []string) (Config, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return Default(), nil
	}
	if err != nil {
		return Config{}, err
	}
	return Parse(file, text, profiles)
}

// Parse reads the text of a file. All mistakes are reported, joined.
func Parse(file string, text []byte, profiles []string) (Config, error) {
	c := Default()
	body, err := strictyaml.Document(file, text, "one configuration")
	if err != nil {
		return Config{}, err
	}
	r := &reader{file: file, profiles: profiles}
	if body != nil {
		r.config(body, &c)
	}
	if len(r.errs) > 0 {
		return Config{}, errors.Join(r.errs...)
	}
	return c, nil
}

type reader struct {
	file     string
	profiles []string
	errs     []error
}

func (r *reader) fail(n ast.Node, key, format string, args ...any) {
	r.errs = append(r.errs, strictyaml.At(r.file, n, key, format, args...))
}

func (r *reader) config(n ast.Node, c *Config) {
	r.mapping(n, "", map[string]field{
		"report_every": r.duration(&c.ReportEvery, time.Second, time.Hour),
		"queue_limit":  r.size(&c.QueueLimit, LeastQueue, 1<<40),
		"links":        r.list(r.link(c)),
		"time_servers": r.list(func(n ast.Node, path string) {
			s := ""
			r.text(&s, regexp.MustCompile(`^[A-Za-z0-9.:-]{1,253}$`), "the name or address of a time server, such as ntp.example.com")(n, path)
			c.TimeServers = append(c.TimeServers, s)
		}),
		"buses": r.list(func(n ast.Node, path string) {
			b := Bus{Name: fmt.Sprintf("bus%d", len(c.Buses)+1), Protocol: "modbus"}
			r.bus(n, path, &b)
			r.lineOf(n, path, &b)
			for _, other := range c.Buses {
				if b.Name == other.Name {
					r.fail(n, path+".name", "%q is taken by another bus; names are unique", b.Name)
				}
				if b.Port == other.Port {
					r.fail(n, path+".port", "%s is taken by %s; a port is one bus", b.Port, other.Name)
				}
			}
			c.Buses = append(c.Buses, b)
		}),
	})
}

// lineOf gives a bus the usual speed and format of its protocol where the file
// gives none. GENIbus knows one only, and other addresses than Modbus.
func (r *reader) lineOf(n ast.Node, path string, b *Bus) {
	usual := Bus{Speed: 19200, Parity: "even", StopBits: 1}
	if b.Protocol == "genibus" {
		usual = Bus{Speed: 9600, Parity: "none", StopBits: 1}
		if b.Speed != 0 && b.Speed != 9600 || b.Parity != "" && b.Parity != "none" || b.StopBits > 1 {
			r.fail(n, path+".protocol", "GENIbus always runs at 9600 bit/s without parity and with one stop bit; remove speed, parity and stop_bits")
		}
		for _, p := range b.Pumps {
			if p.Address != 0 && (p.Address < 32 || p.Address > 231) {
				r.fail(n, path+".pumps", "address %d on a GENIbus; allowed: 32 to 231, which is the number on the pump's display and 31", p.Address)
			}
		}
	}
	if b.Speed == 0 {
		b.Speed = usual.Speed
	}
	if b.Parity == "" {
		b.Parity = usual.Parity
	}
	if b.StopBits == 0 {
		b.StopBits = usual.StopBits
	}
}

func (r *reader) bus(n ast.Node, path string, b *Bus) {
	r.mapping(n, path, map[string]field{
		"name":      r.text(&b.Name, regexp.MustCompile(`^[a-z0-9-]{1,16}$`), "1 to 16 of a-z, 0-9 and -"),
		"port":      r.text(&b.Port, regexp.MustCompile(`^/.+`), "the path of a serial device, such as /dev/ttyUSB0"),
		"protocol":  r.oneOf(&b.Protocol, []string{"modbus", "genibus"}),
		"speed":     r.oneOfInts(&b.Speed, Speeds),
		"parity":    r.oneOf(&b.Parity, []string{"none", "even", "odd"}),
		"stop_bits": r.oneOfInts(&b.StopBits, []int{1, 2}),
		"pumps": r.list(func(n ast.Node, path string) {
			p := Pump{}
			r.mapping(n, path, map[string]field{
				"address":     r.integer(&p.Address, 1, 247),
				"name":        r.text(&p.Name, regexp.MustCompile(`^[^\pC]{1,64}$`), "1 to 64 printable characters"),
				"profile":     r.oneOf(&p.Profile, r.profiles),
				"reply_delay": r.duration(&p.ReplyDelay, 0, LongestReplyDelay),
				"pause":       r.duration(&p.Pause, 0, LongestPause),
			}, "address", "profile")
			for _, other := range b.Pumps {
				if p.Address == other.Address && p.Address != 0 {
					r.fail(n, path+".address", "%d is taken by another pump on this bus", p.Address)
				}
			}
			b.Pumps = append(b.Pumps, p)
		}),
	}, "port")
}

type field func(n ast.Node, path string)

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
			r.fail(n, path, "a list is expected: lines that start with \"- \"")
			return
		}
		for i, v := range seq.Values {
			each(v, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// scalar is the text of a plain value.
func (r *reader) scalar(n ast.Node, path, allowed string) (string, bool) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	r.fail(n, path, "allowed: %s", allowed)
	return "", false
}

func (r *reader) text(dst *string, pattern *regexp.Regexp, allowed string) field {
	return func(n ast.Node, path string) {
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		if !pattern.MatchString(s) {
			r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
			return
		}
		*dst = s
	}
}

func (r *reader) oneOf(dst *string, of []string) field {
	return func(n ast.Node, path string) {
		allowed := strings.Join(of, ", ")
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		if !slices.Contains(of, s) {
			r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
			return
		}
		*dst = s
	}
}

func (r *reader) number(n ast.Node, path, allowed string) (int, bool) {
	s, ok := r.scalar(n, path, allowed)
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
		return 0, false
	}
	return v, true
}

func (r *reader) integer(dst *int, low, high int) field {
	return func(n ast.Node, path string) {
		allowed := fmt.Sprintf("a whole number from %d to %d", low, high)
		v, ok := r.number(n, path, allowed)
		if !ok {
			return
		}
		if v < low || v > high {
			r.fail(n, path, "%d is not allowed; allowed: %s", v, allowed)
			return
		}
		*dst = v
	}
}

func (r *reader) oneOfInts(dst *int, of []int) field {
	return func(n ast.Node, path string) {
		var words []string
		for _, v := range of {
			words = append(words, strconv.Itoa(v))
		}
		allowed := strings.Join(words, ", ")
		v, ok := r.number(n, path, allowed)
		if !ok {
			return
		}
		if !slices.Contains(of, v) {
			r.fail(n, path, "%d is not allowed; allowed: %s", v, allowed)
			return
		}
		*dst = v
	}
}

func (r *reader) duration(dst *time.Duration, low, high time.Duration) field {
	return func(n ast.Node, path string) {
		allowed := fmt.Sprintf("a duration from %v to %v, such as 60s or 5m", low, high)
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil || d < low || d > high {
			r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
			return
		}
		*dst = d
	}
}

func (r *reader) size(dst *int64, low, high int64) field {
	units := []struct {
		suffix string
		bytes  int64
	}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}}
	return func(n ast.Node, path string) {
		allowed := fmt.Sprintf("a size from %dMB to 1024GB, such as 256MB", low>>20)
		s, ok := r.scalar(n, path, allowed)
		if !ok {
			return
		}
		for _, u := range units {
			digits, found := strings.CutSuffix(s, u.suffix)
			v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
			if found && err == nil && v*u.bytes >= low && v*u.bytes <= high {
				*dst = v * u.bytes
				return
			}
		}
		r.fail(n, path, "%q is not allowed; allowed: %s", s, allowed)
	}
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
