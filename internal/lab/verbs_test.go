package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// penstock runs the firmware's program as a technician does.
func penstock(t *testing.T, p Programs, args ...string) (output string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	argv := append(append([]string{}, p.Gateway...), args...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	return string(out), err == nil
}

// said is a command line, what it must say, and whether it must succeed.
type said struct {
	args string
	want string
	ok   bool
}

func hold(t *testing.T, p Programs, line []string, all []said) {
	t.Helper()
	for _, s := range all {
		words := fields(s.args)
		out, ok := penstock(t, p, append(words, line...)...)
		if ok != s.ok || !strings.Contains(out, s.want) {
			t.Errorf("penstock %s: ok %v, said\n%s\nwant %v and %q", s.args, ok, out, s.ok, s.want)
		}
	}
}

// adapter is a serial port with virtual pumps on its line, and the programs to try
// it with.
func adapter(t *testing.T, pumps ...string) (Programs, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the programs are built in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	port := filepath.Join(dir, "ttyUSB0")
	line, err := Start("the virtual pumps", filepath.Join(dir, "log"), append([]string{programs.Lab, "pumps", "-link", port}, pumps...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Kill)
	if err := await(t.Context(), "the virtual serial port", line, func() (bool, error) {
		_, err := os.Stat(port)
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
	return programs, port
}

// TestAPumpIsReadAndChangedFromALaptop: with an adapter and nothing else, no
// identity, configuration, backend or root.
func TestAPumpIsReadAndChangedFromALaptop(t *testing.T) {
	t.Parallel()
	programs, port := adapter(t)
	hold(t, programs, []string{"-port", port}, []said{
		{"read 304 2", "00305", true},
		{"read 304 2 -address 9", "device 9", false},
		{"read 70000", `REGISTER is "70000"; allowed: a whole number from 1 to 65536`, false},
		{"write setpoint 62", "the pump shows 62.00 %", true},
		{"write setpoint 162", "162 is out of range; allowed: 0.00 % to 100.00 %", false},
		{"write fly", `no command "fly"; it has: access, running`, false},
		{"write running off", "the pump shows off", true},
		{`write control_mode "constant pressure"`, "the pump shows constant pressure", true},
		{"write access local", "the pump shows local", true},
		{"write setpoint 50", "local", false}, // and says what to do
		{"write 104 5500", "00104   5500", true},
		{"watch -for 2s", "setpoint", true},
		{"watch -for 2s -profile none", "there are ", false},
		{"bus -for 2s", "planned", true},
	})
}

// TestAGatewayIsAskedAtItsSocket: the same verbs without a port ask the gateway
// that runs.
func TestAGatewayIsAskedAtItsSocket(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	hold(t, site.Programs, []string{"-socket", site.Socket()}, []said{
		{"bus", "Pump 1", true},
		{"watch -for 2s -pump bus1-1", "speed", true},
		{"watch -for 2s -pump bus9-1", `no pump "bus9-1"; it has: bus1-1, bus1-2`, false},
		{"write -pump bus1-1 setpoint 61.5", "bus1-1 shows 61.50 %", true},
		{"write -pump bus1-1 setpoint 161.5", "out of range", false},
		{"write -pump bus9-1 setpoint 61", `no pump "bus9-1"`, false},
		{"write setpoint 61", "which pump?", false},
	})
	// The line belongs to the gateway, and a second program is told so.
	hold(t, site.Programs, []string{"-port", site.Port()}, []said{{"read 304", "stop the other program", false}})
	settle(t, site, 0)
}

// TestAGenibusUnitGetsAnotherAddress: on a line of two, over a real port.
func TestAGenibusUnitGetsAnotherAddress(t *testing.T) {
	t.Parallel()
	programs, port := adapter(t, "-protocol", "genibus", "-pumps", "magna3@32,upe@33")
	hold(t, programs, []string{"-port", port}, []said{
		{"address 32 33", "address 33 is taken", false},
		{"address 50 51", "no answer", false},
		{"address 3 51", "allowed: a whole number from 32 to 231", false},
		{"address 32 40", "the unit that was at 32 answers at 40", true},
		{"address 32 41", "no answer", false},
		{"address 40 32", "the unit that was at 40 answers at 32", true},
	})
}
