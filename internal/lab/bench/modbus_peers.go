package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// master is a program that reads registers, ours or a peer.
type master struct {
	name    string // "" is ours
	argv    func(job) []string
	problem error // why it cannot run
}

// job is what a master is asked to do; see internal/lab/peers/client.
type job struct {
	port              string
	baud, regs, count int
	list              string // file of the reads to make instead
	timeout           time.Duration
	attempts          int // ours only
	log, raw          bool
}

// done is what it says at the end.
type done struct {
	answered, failed int
	cpu              time.Duration
	allocs           uint64 // ours only
}

func (j job) flags() []string {
	args := []string{
		"-port", j.port, "-baud", strconv.Itoa(j.baud), "-regs", strconv.Itoa(j.regs), "-count", strconv.Itoa(j.count),
		"-list", j.list, "-timeout", j.timeout.String(),
	}
	if j.log {
		args = append(args, "-log")
	}
	return args
}

// run does a job, and hands each line of its log to line.
func (m master) run(ctx context.Context, j job, line func(string)) (done, error) {
	argv := m.argv(j)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		return done{}, err
	}
	if err := cmd.Start(); err != nil {
		return done{}, err
	}
	var last string
	for s := bufio.NewScanner(out); s.Scan(); {
		if last = s.Text(); line != nil && !strings.HasPrefix(last, "done ") {
			line(last)
		}
	}
	if err := cmd.Wait(); err != nil {
		return done{}, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, problems.String())
	}
	var d done
	var micros int64
	if n, err := fmt.Sscan(strings.TrimPrefix(last, "done "), &d.answered, &d.failed, &micros, &d.allocs); n < 3 {
		return done{}, fmt.Errorf("%s ended with %q: %w", filepath.Base(argv[0]), last, err)
	}
	d.cpu = time.Duration(micros) * time.Microsecond
	return d, nil
}

// workshop builds masters into a folder.
type workshop struct {
	root string // of the module
	dir  string // where binaries go
}

func newWorkshop(ctx context.Context) (*workshop, error) {
	root, err := repository(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "penstock-bench-")
	if err != nil {
		return nil, err
	}
	return &workshop{root: root, dir: dir}, nil
}

// repository is where the benchmarks' sources and traces are.
func repository(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "penstock").Output()
	if err != nil {
		return "", fmt.Errorf("this benchmark has to run inside the repository, with Go installed: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}

func (w *workshop) close() error { return os.RemoveAll(w.dir) }

func (w *workshop) build(ctx context.Context, folder, out string, env ...string) (string, error) {
	bin := filepath.Join(w.dir, out)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, ".")
	cmd.Dir = filepath.Join(w.root, folder)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", folder, err, text)
	}
	return bin, nil
}

// ours is Penstock's master.
func (w *workshop) ours(ctx context.Context) (master, error) {
	bin, err := w.build(ctx, "internal/lab/bench/subject", "subject")
	return subject(bin), err
}

// emulated is Penstock's master compiled for ARMv7, under qemu-user where this
// machine is another.
func (w *workshop) emulated(ctx context.Context) (master, error) {
	bin, err := w.build(ctx, "internal/lab/bench/subject", "subject-armv7", "GOOS=linux", "GOARCH=arm", "GOARM=7")
	if err != nil || runtime.GOARCH == "arm" {
		return subject(bin), err
	}
	qemu, err := exec.LookPath("qemu-arm-static")
	if err != nil {
		return master{}, fmt.Errorf("running ARM programs needs qemu-arm-static (Debian: qemu-user-static): %w", err)
	}
	return subject(qemu, bin), nil
}

func subject(argv ...string) master {
	return master{argv: func(j job) []string {
		args := append(append([]string{}, argv...), j.flags()...)
		args = append(args, "-attempts", strconv.Itoa(max(1, j.attempts)))
		if j.raw {
			args = append(args, "-raw")
		}
		return args
	}}
}

// peers are the masters of others. One that could not be built has the reason
// as its problem.
func (w *workshop) peers(ctx context.Context) (all []master) {
	client, problem := w.build(ctx, "internal/lab/peers/client", "client")
	for _, name := range []string{"goburrow", "simonvetter", "grid-x"} {
		all = append(all, master{name: name, problem: problem, argv: func(j job) []string {
			return append([]string{client, "-peer", name}, j.flags()...)
		}})
	}
	c, problem := w.libmodbus(ctx)
	return append(all, master{name: "libmodbus", problem: problem, argv: func(j job) []string {
		verbose := "0"
		if j.log {
			verbose = "1"
		}
		return []string{
			c, j.port, strconv.Itoa(j.baud), strconv.Itoa(j.regs), strconv.Itoa(j.count), j.list,
			strconv.FormatInt(j.timeout.Milliseconds(), 10), verbose,
		}
	}})
}

// present leaves out masters that cannot run, and emits a line that says why,
// and those that are not wanted.
func present(all []master, emit func(Metric), unwanted ...string) []master {
	return slices.DeleteFunc(slices.Clone(all), func(m master) bool {
		if m.problem != nil {
			emit(Metric{"peer_missing", 1, "1", map[string]any{"peer": m.name, "reason": m.problem.Error()}})
		}
		return m.problem != nil || slices.Contains(unwanted, m.name)
	})
}

func (w *workshop) libmodbus(ctx context.Context) (string, error) {
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", "libmodbus").Output()
	if err != nil {
		return "", fmt.Errorf("libmodbus is not installed (Debian: libmodbus-dev, pkg-config): %w", err)
	}
	bin := filepath.Join(w.dir, "libmodbus-client")
	args := append([]string{"-O2", "-o", bin, filepath.Join(w.root, "internal/lab/peers/libmodbus/client.c")}, strings.Fields(string(flags))...)
	if text, err := exec.CommandContext(ctx, "cc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the libmodbus client: %w\n%s", err, text)
	}
	return bin, nil
}
