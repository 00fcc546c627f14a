// Command report reads `go test -json` from its input and prints what a person
// wants of it: a line for each package, the whole output of each test that
// failed, the tests that were skipped and why, and the counts at the end. It
// exits with 1 when something failed, and with -no-skips also when a test was
// skipped.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go doc cmd/test2json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// most bounds the output of one failed test: its end tells most.
const most = 200 // lines

type test struct{ pkg, name string }

func main() {
	noSkips := flag.Bool("no-skips", false, "a skipped test is a failure")
	flag.Parse()
	failed, skipped, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if failed > 0 || *noSkips && skipped > 0 {
		os.Exit(1)
	}
}

func report(in io.Reader, out io.Writer) (failed, skipped int, err error) {
	output := map[test][]string{}
	var skips []string
	passed := 0
	broken := map[string]bool{} // packages with a failed test, whose own output repeats it
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return failed, skipped, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprint(out, string(line)) // of a tool that writes no JSON
			continue
		}
		key := test{e.Package + e.ImportPath, e.Test}
		switch e.Action {
		case "output", "build-output":
			output[key] = append(output[key], e.Output)
		case "build-fail":
			fmt.Fprint(out, tail(output[key]))
		case "pass", "skip", "fail":
			top := e.Test != "" && !strings.Contains(e.Test, "/")
			switch {
			case e.Test == "" && e.Action == "fail":
				fmt.Fprintf(out, "FAIL  %6.1f s  %s\n", e.Elapsed, e.Package)
				if !broken[e.Package] { // a panic, a time-out, or it did not build
					failed++
					fmt.Fprint(out, tail(output[key]))
				}
			case e.Test == "" && e.Action == "pass":
				fmt.Fprintf(out, "ok    %6.1f s  %s\n", e.Elapsed, e.Package)
			case e.Test != "" && e.Action == "fail":
				broken[e.Package] = true
				if top {
					failed++
				}
				fmt.Fprintf(out, "\n--- FAIL: %s in %s\n%s\n", e.Test, e.Package, tail(output[key]))
			case e.Test != "" && e.Action == "skip":
				skipped++
				skips = append(skips, e.Test+" in "+e.Package+": "+reason(output[key]))
			case top:
				passed++
			}
			delete(output, key)
		}
	}
	if len(skips) > 0 {
		slices.Sort(skips)
		fmt.Fprintf(out, "\nskipped:\n  %s\n", strings.Join(skips, "\n  "))
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed, skipped, nil
}

func tail(lines []string) string {
	if n := len(lines); n > most {
		lines = append([]string{fmt.Sprintf("… %d lines before\n", n-most)}, lines[n-most:]...)
	}
	return strings.Join(lines, "")
}

// reason is the last thing that a skipped test said.
func reason(lines []string) string {
	for _, l := range slices.Backward(lines) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "===") {
			return l
		}
	}
	return "it does not say why"
}
