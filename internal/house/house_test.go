package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite cmd/penstock/linked.txt")

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Standard   bool
	Module     *struct{ Path, Version string }
	Imports    []string
	GoFiles    []string
}

func list(t *testing.T, env []string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Doc,Standard,Module,Imports,GoFiles"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func in(path string, rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(room string) bool {
		room = "penstock/" + room
		return path == room || strings.HasPrefix(path, room+"/")
	})
}

// allowed says whom of ours a room may import besides its own packages. The
// first line that fits a package decides.
var allowed = []struct {
	room string
	may  []string
}{
	{"cmd/penstock-cloud", []string{"backend", "internal/cli"}},
	{"cmd/penstock-lab", []string{"internal/lab", "internal/cli"}},
	{"cmd/penstock", []string{"internal/gateway", "internal/cli", "internal/config", "internal/local", "internal/status"}},
	{"internal/gateway", []string{"fieldbus", "uplink", "certs", "ota", "board",
		"internal/telemetry", "internal/disk", "internal/clock", "internal/status", "internal/config", "internal/local"}},
	{"fieldbus/lateness", nil},                          // imports nothing of ours, so that genibus can use it
	{"fieldbus/genibus", []string{"fieldbus/lateness"}}, // stands alone but for that, so that others can use it
	{"fieldbus", []string{"internal/telemetry", "internal/disk", "internal/clock", "internal/strictyaml"}},
	{"uplink", []string{"internal/telemetry", "internal/disk", "internal/clock"}},
	{"certs", []string{"internal/telemetry", "internal/disk", "internal/clock"}},
	{"ota", []string{"internal/telemetry", "internal/disk", "internal/clock"}},
	{"board", []string{"internal/telemetry", "internal/disk", "internal/clock"}},
	{"backend", []string{"uplink/wire", "certs/pki",
		"internal/telemetry", "internal/disk", "internal/clock", "internal/config", "internal/status"}},
	{"internal/lab", []string{"fieldbus", "uplink", "certs", "ota", "board", "backend", "internal"}},
	{"internal/local", []string{"internal/status"}},
	{"internal/status", []string{"internal/telemetry"}},
	{"internal/cli", nil},
	{"internal/config", []string{"internal/strictyaml"}},
	{"internal/strictyaml", nil},
	{"internal/clock", nil},
	{"internal/telemetry", nil},
	{"internal/disk", nil},
	{"internal/house", nil},
}

// breaches lists the imports that the table does not allow.
func breaches(pkgs []pkg) (bad []string) {
	for _, p := range pkgs {
		i := slices.IndexFunc(allowed, func(r struct {
			room string
			may  []string
		}) bool {
			return in(p.ImportPath, r.room)
		})
		if i < 0 {
			bad = append(bad, p.ImportPath+" is in no room of the table")
			continue
		}
		rule := allowed[i]
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "penstock/") && !in(imp, rule.room) && !in(imp, rule.may...) {
				bad = append(bad, fmt.Sprintf("%s imports %s; %s may import only %v", p.ImportPath, imp, rule.room, rule.may))
			}
		}
	}
	return bad
}

func TestImportsFollowTheHouse(t *testing.T) {
	for _, b := range breaches(list(t, nil, "./...")) {
		t.Error(b)
	}
}

func TestAWrongImportIsCaught(t *testing.T) {
	for _, p := range []pkg{
		{ImportPath: "penstock/fieldbus/modbus", Imports: []string{"penstock/uplink/wire"}},
		{ImportPath: "penstock/backend/web", Imports: []string{"penstock/certs"}},
		{ImportPath: "penstock/fieldbus/genibus", Imports: []string{"penstock/internal/clock"}},
		{ImportPath: "penstock/internal/gateway", Imports: []string{"penstock/internal/lab"}},
		{ImportPath: "penstock/elsewhere"},
	} {
		if len(breaches([]pkg{p})) != 1 {
			t.Errorf("%s importing %v went unnoticed", p.ImportPath, p.Imports)
		}
	}
}

// networked lists packages of the field buses that use a network.
func networked(pkgs []pkg) (bad []string) {
	for _, p := range pkgs {
		for _, imp := range p.Imports {
			if in(p.ImportPath, "fieldbus") && (imp == "net" || imp == "crypto/tls" || strings.HasPrefix(imp, "net/") || strings.HasPrefix(imp, "golang.org/x/net/")) {
				bad = append(bad, fmt.Sprintf("%s imports %s; what happens on a serial line stays there", p.ImportPath, imp))
			}
		}
	}
	return bad
}

func TestTheFieldbusKnowsNoNetwork(t *testing.T) {
	for _, b := range networked(list(t, nil, "./fieldbus/...")) {
		t.Error(b)
	}
	planted := []pkg{{ImportPath: "penstock/fieldbus/modbus", Imports: []string{"net"}}, {ImportPath: "penstock/fieldbus/serial", Imports: []string{"net/http"}}}
	if n := len(networked(planted)); n != len(planted) {
		t.Errorf("of %d planted imports %d are caught", len(planted), n)
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range list(t, nil, "./...") {
		if len(p.GoFiles) > 0 && len(strings.Fields(p.Doc)) < 4 {
			t.Errorf("%s has no package comment that says what it is", p.ImportPath)
		}
	}
}

// TestLinkedDependencies compares what the firmware links with the committed
// list, so that a new dependency shows in review. Rewrite it with
// go test ./internal/house -update.
func TestLinkedDependencies(t *testing.T) {
	var lines []string
	for _, p := range list(t, []string{"GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0"}, "-deps", "./cmd/penstock") {
		if !p.Standard && p.Module != nil && p.Module.Path != "penstock" {
			lines = append(lines, p.ImportPath)
		}
		if in(p.ImportPath, "uplink/wire/wirepb", "uplink/wire/decode", "internal/lab", "backend") {
			t.Errorf("the firmware links %s", p.ImportPath)
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	const file = "../../cmd/penstock/linked.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the firmware's linked packages changed; if that is meant, run go test ./internal/house -update.\ngot:\n%s\ncommitted:\n%s", got, want)
	}
}

// TestTheFirmwareDoesWithoutATPM: the build tag notpm leaves out all that is for one.
func TestTheFirmwareDoesWithoutATPM(t *testing.T) {
	for _, p := range list(t, []string{"GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0", "GOFLAGS=-tags=notpm"}, "-deps", "./cmd/penstock") {
		if strings.Contains(p.ImportPath, "tpm") {
			t.Errorf("it links %s", p.ImportPath)
		}
	}
	cmd := exec.Command("go", "build", "-tags", "notpm", "-o", os.DevNull, "./cmd/penstock")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// calls finds calls of the form x.Sel(...) in the Go files of dir.
func calls(t *testing.T, dir string, tests bool, visit func(x, sel, pos string, call *ast.CallExpr)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
					x, _ := sel.X.(*ast.Ident)
					name := ""
					if x != nil {
						name = x.Name
					}
					visit(name, sel.Sel.Name, fset.Position(call.Pos()).String(), call)
				}
			}
			return true
		})
	}
}

// TestTimeIsHandedIn: below cmd, internal/gateway and internal/lab nobody looks
// at the wall clock or waits on it, except internal/clock whose job it is.
func TestTimeIsHandedIn(t *testing.T) {
	for _, p := range list(t, nil, "./...") {
		if in(p.ImportPath, "cmd", "internal/gateway", "internal/lab", "internal/clock", "internal/local", "internal/house") {
			continue
		}
		calls(t, p.Dir, false, func(x, sel, pos string, _ *ast.CallExpr) {
			if x == "time" && slices.Contains([]string{"Now", "Sleep", "After", "Tick", "NewTicker", "NewTimer", "Since", "Until"}, sel) {
				t.Errorf("%s: time.%s; take a clock.Clock", pos, sel)
			}
		})
	}
}

// TestTestsDoNotNap: a test waits for a condition or plays the clock.
func TestTestsDoNotNap(t *testing.T) {
	for _, p := range list(t, nil, "./...") {
		bubbles := false
		calls(t, p.Dir, true, func(x, sel, _ string, _ *ast.CallExpr) { bubbles = bubbles || x == "synctest" })
		calls(t, p.Dir, true, func(x, sel, pos string, _ *ast.CallExpr) {
			if x == "time" && sel == "Sleep" && !bubbles {
				t.Errorf("%s: a test that sleeps is slow or flaky, or both", pos)
			}
		})
	}
}

// TestNoUnboundedWaitForAToken: paho's token.Wait() may never return.
func TestNoUnboundedWaitForAToken(t *testing.T) {
	for _, p := range list(t, nil, "./uplink/...", "./internal/gateway/...") {
		calls(t, p.Dir, false, func(x, sel, pos string, call *ast.CallExpr) {
			if sel == "Wait" && len(call.Args) == 0 && x != "wg" && x != "group" {
				t.Errorf("%s: %s.Wait() without a bound", pos, x)
			}
		})
	}
}

// listeners are the ways to open a listening socket by the standard library.
var listeners = []string{"Listen", "ListenTCP", "ListenUDP", "ListenPacket", "ListenMulticastUDP", "ListenIP", "ListenAndServe", "ListenAndServeTLS"}

// TestFirmwareNeverListens: no package of ours that the firmware links calls
// one of them, the local Unix socket excepted. What the kernel says of the
// running firmware is checked end to end in internal/lab.
func TestFirmwareNeverListens(t *testing.T) {
	for _, p := range list(t, []string{"GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0"}, "-deps", "./cmd/penstock") {
		if !strings.HasPrefix(p.ImportPath, "penstock/") {
			continue
		}
		calls(t, p.Dir, false, func(x, sel, pos string, call *ast.CallExpr) {
			if !slices.Contains(listeners, sel) || x == "" {
				return
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Value == `"unix"` && p.ImportPath == "penstock/internal/local" {
				return
			}
			t.Errorf("%s: %s.%s in the firmware", pos, x, sel)
		})
	}
}
