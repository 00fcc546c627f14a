package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// command is a line of a console block in a document.
type command struct {
	where string // file:line
	words []string
}

// documented finds the commands in a document: the lines that begin with "$ "
// in blocks marked console.
func documented(t *testing.T, file string) (found []command) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && strings.HasPrefix(line, "$ "):
			line, _, _ = strings.Cut(line[2:], " #")
			found = append(found, command{file + ":" + strconv.Itoa(i+1), fields(line)})
		}
	}
	return found
}

// fields splits a line as a shell does, as far as documents use it.
func fields(line string) (words []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}

// TestDocumentedCommandsExist holds every command of the README and the docs
// against the programs: it is there, and it has each flag that the document uses.
// What they do is for the tests of each; a command that was renamed shows here.
func TestDocumentedCommandsExist(t *testing.T) {
	if testing.Short() {
		t.Skip("the programs are built in the long tests only")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(files, "../../README.md") {
		for _, c := range documented(t, file) {
			n++
			switch name := filepath.Base(c.words[0]); name {
			case "make":
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(c.words[1]) + `:`).Match(makefile) {
					t.Errorf("%s: make has no target %s", c.where, c.words[1])
				}
			case "penstock", "penstock-cloud", "penstock-lab":
				for _, complaint := range check(t, filepath.Join(filepath.Dir(programs.Cloud), name), c.words[1:]) {
					t.Errorf("%s: %s %s", c.where, name, complaint)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d commands found: does the test still read the documents?", n)
	}
	for _, planted := range [][]string{{"fly"}, {"scan", "-altitude", "3"}} {
		if len(check(t, programs.Gateway[0], planted)) == 0 {
			t.Errorf("penstock %v went unnoticed", planted)
		}
	}
}

// check asks a program for the help of a command line.
func check(t *testing.T, program string, words []string) (complaints []string) {
	t.Helper()
	if len(words) == 0 || words[0] == "help" {
		return nil
	}
	n := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") })
	if n < 0 {
		n = len(words)
	}
	var help string
	for n = min(n, 2); n > 0; n-- { // a command has one word or two
		out, err := exec.CommandContext(context.Background(), program, append(slices.Clone(words[:n]), "-help")...).CombinedOutput()
		if err == nil {
			help = string(out)
			break
		}
	}
	if n == 0 {
		return []string{"has no command " + words[0]}
	}
	for _, w := range words {
		flag, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
		if strings.HasPrefix(w, "-") && !regexp.MustCompile(`(?m)^\s+-`+regexp.QuoteMeta(flag)+`\b`).MatchString(help) {
			complaints = append(complaints, strings.Join(words[:n], " ")+" has no flag -"+flag)
		}
	}
	return complaints
}

// TestEveryLinkLeadsSomewhere: a document that the README or another document
// refers to is there.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	n := 0
	for _, file := range append(append(files, more...), "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s refers to %s, which is not there", file, m[1])
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d links found: does the test still read the documents?", n)
	}
}
