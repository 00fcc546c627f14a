package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const threatModel = "../../docs/threat-model.md"

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// tests lists every test and fuzz target of the project.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			all[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wanting lists what is wrong with a threat model: tests that there are not, promises
// without a row, rows without a test that do not say that they are not built.
func wanting(text string, all map[string]bool) (bad []string) {
	for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
		if !all[m[1]] {
			bad = append(bad, m[1]+" does not exist")
		}
	}
	_, promises, _ := strings.Cut(text, "\n## Promises\n")
	promises, _, _ = strings.Cut(promises, "\n## ")
	next := 1
	for line := range strings.SplitSeq(promises, "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || strings.HasPrefix(line, "| # ") {
			continue
		}
		number := strings.TrimPrefix(cells[0], "| ")
		if number != strconv.Itoa(next) {
			bad = append(bad, "promise "+strconv.Itoa(next)+" has no row; there is "+number)
		}
		next++
		if !namedTest.MatchString(line) && !strings.Contains(line, "not built yet") && !strings.Contains(line, "as 6 and 12") && !strings.Contains(line, "attack matrix below") {
			bad = append(bad, "promise "+number+" names no test, and does not say that it is not built yet")
		}
	}
	if next != 23 {
		bad = append(bad, "there are "+strconv.Itoa(next-1)+" promises; 22 were made")
	}
	return bad
}

func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(threatModel)
	if err != nil {
		t.Fatal(err)
	}
	all := tests(t)
	for _, bad := range wanting(string(text), all) {
		t.Error(bad)
	}
	for name := range all {
		if strings.HasPrefix(name, "TestAttack") && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s is an attack that the threat model does not have", name)
		}
	}
}

func TestAHoleInTheThreatModelIsCaught(t *testing.T) {
	whole, err := os.ReadFile(threatModel)
	if err != nil {
		t.Fatal(err)
	}
	all := tests(t)
	for what, change := range map[string][2]string{
		"a test that there is not": {"`TestFirmwareNeverListens`", "`TestFirmwareNeverSleeps`"},
		"a promise without a row":  {"\n| 9 |", "\n| nine |"},
		"a promise without a test": {"| `TestTheCookieIsForThisHostOverTLSOnly` |", "| |"},
	} {
		if len(wanting(strings.Replace(string(whole), change[0], change[1], 1), all)) == 0 {
			t.Errorf("%s went unnoticed", what)
		}
	}
}
