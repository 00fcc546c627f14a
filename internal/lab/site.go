package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"penstock/internal/local"
	"penstock/internal/status"
)

// Site is a plant with its backend in one folder. Its processes can be killed
// and started again; what they keep is on disk, as in the field.
type Site struct {
	Dir      string
	Programs Programs
	Period   time.Duration // the gateway's reporting period
	Pumps    int           // virtual pumps on the line
	First    int           // address of the first of them, 0 for 1
	Discover bool          // the gateway is not told which pumps there are
	Genibus  int           // MAGNA3 on a GENIbus of their own, from address 32 on

	Hosts   string // that the backend is called by; "" for localhost
	Reached string // the host at which gateways find it; "": where it listens
	Links   string // lines of the gateway's configuration, such as "links: …"
	// InCloud and InGateway, if any, run a function where the backend and the
	// gateway live, such as a network namespace; processes that it starts live there.
	InCloud, InGateway func(func() error) error
	CertificateLife    time.Duration // of operational certificates; 0: the backend's own
	Scenario           string        // what happens to the pumps, see PumpsOptions

	// Beside is the site whose backend this one's gateway belongs to, and Number
	// the gateway's serial number; nil and "": a backend of its own, and Serial.
	Beside *Site
	Number string

	Keys string // where the gateway's keys are: "file" (also ""), "tpm", or "best", the TPM if it works

	PumpsProc, CloudProc, GatewayProc *Process
	GenibusProc                       *Process // nil: there is none

	addresses Addresses
	starts    []time.Time // of the gateway
}

// Addresses are where the backend listens.
type Addresses struct {
	Auth     string `json:"auth"`
	Endpoint string `json:"endpoint"`
	Web      string `json:"web"`
}

// Serial is the serial number of a site's gateway that is given no other.
const Serial = "LAB-0001"

func (s *Site) serial() string {
	if s.Number != "" {
		return s.Number
	}
	return Serial
}

// backend is the site that the backend stands on.
func (s *Site) backend() *Site {
	if s.Beside != nil {
		return s.Beside
	}
	return s
}

func (s *Site) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Port is the gateway's serial port: a link to a pty.
func (s *Site) Port() string { return s.path("ttyPUMPS") }

// ServedLog is where the virtual pumps write what they served.
func (s *Site) ServedLog() string { return s.path("served.jsonl") }

// Database is the backend's store.
func (s *Site) Database() string { return s.backend().path("cloud", "cloud.db") }

// Socket is the gateway's local socket. A path of a socket may have no more
// than 107 bytes, so it does not stand in a deep temporary folder by itself.
func (s *Site) Socket() string { return s.path("gw.sock") }

// Addresses are known once the backend is up.
func (s *Site) Addresses() Addresses { return s.backend().addresses }

// address is that of a pump on the line, counted from 0.
func (s *Site) address(i int) int { return max(s.First, 1) + i }

// StartPumps brings up the virtual pumps and waits for their serial port.
func (s *Site) StartPumps(ctx context.Context) (err error) {
	pumps := make([]string, 0, s.Pumps)
	for i := range s.Pumps {
		pumps = append(pumps, fmt.Sprintf("%s@%d", []string{"magna3", "epump"}[i%2], s.address(i)))
	}
	s.PumpsProc, err = Start("the virtual pumps", s.path("pumps.log"), s.Programs.Lab, "pumps",
		"-link", s.Port(), "-served", s.ServedLog(), "-pumps", strings.Join(pumps, ","), "-scenario", s.Scenario)
	if err != nil {
		return err
	}
	if err := await(ctx, "the virtual serial port", s.PumpsProc, func() (bool, error) {
		_, err := os.Stat(s.Port())
		return err == nil, err
	}); err != nil || s.Genibus == 0 {
		return err
	}
	var units []string
	for i := range s.Genibus {
		units = append(units, fmt.Sprintf("magna3@%d", firstUnit+i))
	}
	s.GenibusProc, err = Start("the virtual GENIbus pumps", s.path("genibus.log"), s.Programs.Lab, "pumps", "-protocol", "genibus",
		"-link", s.genibusPort(), "-served", s.genibusLog(), "-pumps", strings.Join(units, ","))
	if err != nil {
		return err
	}
	return await(ctx, "the virtual GENIbus", s.GenibusProc, func() (bool, error) {
		_, err := os.Stat(s.genibusPort())
		return err == nil, err
	})
}

// firstUnit is the address of the first pump on the GENIbus: number 1 on its
// display.
const firstUnit = 32

func (s *Site) genibusPort() string { return s.path("ttyGENI") }
func (s *Site) genibusLog() string  { return s.path("genibus.jsonl") }

// StartCloud brings up the backend. The first time it listens where ports are
// free (or at the addresses of At); a restart takes the same ports again.
func (s *Site) StartCloud(ctx context.Context, at Addresses) error {
	if err := s.LaunchCloud(at); err != nil {
		return err
	}
	return s.awaitCloud(ctx)
}

func (s *Site) awaitCloud(ctx context.Context) error {
	return await(ctx, "the backend", s.CloudProc, func() (bool, error) {
		b, err := os.ReadFile(s.ready())
		if err != nil {
			return false, err
		}
		return true, json.Unmarshal(b, &s.addresses)
	})
}

// ready is the file that the backend writes when it is up.
func (s *Site) ready() string { return s.path("cloud.ready") }

// LaunchCloud starts the backend and waits for nothing.
func (s *Site) LaunchCloud(at Addresses) error {
	if s.addresses.Auth != "" {
		at = s.addresses
	}
	if err := os.Remove(s.ready()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	hosts := s.Hosts
	if hosts == "" {
		hosts = "localhost,127.0.0.1"
	}
	argv := []string{s.Programs.Cloud, "serve", "-hosts", hosts, "-state", s.path("cloud"),
		"-auth", at.Auth, "-endpoint", at.Endpoint, "-web", at.Web, "-ready", s.ready()}
	if s.CertificateLife > 0 {
		argv = append(argv, "-certificate-life", s.CertificateLife.String())
	}
	return in(s.InCloud, func() (err error) {
		s.CloudProc, err = Start("penstock-cloud", s.path("cloud.log"), argv...)
		return err
	})
}

// Provision gives the gateway its identity, as an installer would at a bench:
// the key is made where the gateway lives, only its record leaves it. This machine's
// TPM, if there is one, is not the lab's to use.
func (s *Site) Provision(ctx context.Context) error {
	auth := s.Addresses().Auth
	if s.Reached != "" {
		_, port, err := net.SplitHostPort(auth)
		if err != nil {
			return err
		}
		auth = net.JoinHostPort(s.Reached, port)
	}
	keys := map[string]string{"": "file", "best": "", "file": "file", "tpm": "tpm"}[s.Keys] // as for -keys
	return s.run(ctx, s.Programs.Gateway, nil, "provision", "-state", s.path("gateway"), "-serial", s.serial(),
		"-model", "cim550", "-board", "lab", "-auth", "https://"+auth, "-keys", keys,
		"-issue", fmt.Sprintf("'%s' ca issue -state '%s' -", s.Programs.Cloud, s.backend().path("cloud")))
}

// AddUser makes an account for the web page.
func (s *Site) AddUser(ctx context.Context, email, password string) error {
	return s.run(ctx, []string{s.Programs.Cloud}, strings.NewReader(password+"\n"), "user", "add", "-state", s.backend().path("cloud"), email)
}

func (s *Site) run(ctx context.Context, program []string, stdin io.Reader, args ...string) error {
	argv := append(append([]string{}, program...), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// StartGateway starts the firmware and waits until it answers locally.
func (s *Site) StartGateway(ctx context.Context) (err error) {
	if err := s.LaunchGateway(); err != nil {
		return err
	}
	return await(ctx, "the gateway", s.GatewayProc, func() (bool, error) {
		_, err := s.Status(ctx)
		return err == nil, err
	})
}

// configure writes the gateway's configuration.
func (s *Site) configure() (file string, err error) {
	var config strings.Builder
	fmt.Fprintf(&config, "report_every: %v\n%sbuses:\n  - port: %s\n    speed: 19200\n    parity: even\n", s.Period, s.Links, s.Port())
	if !s.Discover {
		config.WriteString("    pumps:\n")
		for i := range s.Pumps {
			fmt.Fprintf(&config, "      - {address: %d, profile: cim-epump, name: Pump %d}\n", s.address(i), s.address(i))
		}
	}
	if s.Genibus > 0 {
		fmt.Fprintf(&config, "  - port: %s\n    protocol: genibus\n    pumps:\n", s.genibusPort())
	}
	for i := range s.Genibus {
		fmt.Fprintf(&config, "      - {address: %d, profile: geni-magna3, name: Pump %d}\n", firstUnit+i, s.Pumps+i+1)
	}
	file = s.path("gateway.yaml")
	return file, os.WriteFile(file, []byte(config.String()), 0o644)
}

// LaunchGateway starts the firmware and waits for nothing.
func (s *Site) LaunchGateway() error {
	config, err := s.configure()
	if err != nil {
		return err
	}
	argv := append(append([]string{}, s.Programs.Gateway...), "run",
		"-state", s.path("gateway"), "-config", config, "-socket", s.Socket())
	s.starts = append(s.starts, time.Now())
	return in(s.InGateway, func() (err error) {
		s.GatewayProc, err = Start("penstock", s.path("gateway.log"), argv...)
		return err
	})
}

// in runs f where a process lives.
func in(where func(func() error) error, f func() error) error {
	if where == nil {
		return f()
	}
	return where(f)
}

// Status asks the gateway through its local socket.
func (s *Site) Status(ctx context.Context) (status.Snapshot, error) {
	return local.Status(ctx, s.Socket())
}

// AwaitReadings waits until every pump has given a good value.
func (s *Site) AwaitReadings(ctx context.Context) error {
	return await(ctx, "first readings of every pump", s.GatewayProc, func() (bool, error) {
		snap, err := s.Status(ctx)
		if err != nil {
			return false, err
		}
		good := 0
		for _, b := range snap.Buses {
			for _, p := range b.Pumps {
				if p.OK && !p.LastGood.IsZero() {
					good++
				}
			}
		}
		return good == s.Pumps+s.Genibus, fmt.Errorf("%d of %d pumps have answered", good, s.Pumps+s.Genibus)
	})
}

// AwaitStored waits until the endpoint has acknowledged a record.
func (s *Site) AwaitStored(ctx context.Context) error {
	return await(ctx, "the first reading in the store", s.GatewayProc, func() (bool, error) {
		snap, err := s.Status(ctx)
		return err == nil && snap.Uplink.Acknowledged > 0, err
	})
}

// Finish ends a run in the order in which nothing is lost: the pumps stop, the
// gateway seals and drains what it has and stops, and the backend follows.
func (s *Site) Finish(ctx context.Context) error {
	var errs []error
	for _, p := range []*Process{s.PumpsProc, s.GenibusProc, s.GatewayProc, s.CloudProc} {
		if p != nil {
			errs = append(errs, p.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// Abandon kills whatever still runs.
func (s *Site) Abandon() {
	for _, p := range []*Process{s.GatewayProc, s.PumpsProc, s.GenibusProc, s.CloudProc} {
		if p != nil {
			p.Kill()
		}
	}
}

// Cloud runs penstock-cloud with a verb on the site's backend, as an operator
// would, and returns what it printed.
func (s *Site) Cloud(ctx context.Context, verb string, args ...string) (string, error) {
	argv := append(strings.Fields(verb), append([]string{"-state", s.backend().path("cloud")}, args...)...)
	out, err := exec.CommandContext(ctx, s.Programs.Cloud, argv...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("penstock-cloud %s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}
