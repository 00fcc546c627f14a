package main

import (
	"strings"
	"testing"
)

func TestAFailureIsShownAndCounted(t *testing.T) {
	const in = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise of a good test\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: one is not two\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: no such tool\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"pass","Package":"q","Elapsed":0.5}
{"Action":"output","Package":"r","Output":"panic: out of luck\n"}
{"Action":"fail","Package":"r","Elapsed":0.1}
{"ImportPath":"s","Action":"build-output","Output":"s.go:1: undefined: x\n"}
{"ImportPath":"s","Action":"build-fail"}
`
	var out strings.Builder
	failed, skipped, err := report(strings.NewReader(in), &out)
	if err != nil || failed != 2 || skipped != 1 {
		t.Errorf("%d failed, %d skipped, %v; want 2, 1", failed, skipped, err)
	}
	for _, want := range []string{"b_test.go:7: one is not two", "ok       0.5 s  q", "panic: out of luck", "s.go:1: undefined: x",
		"TestC in p: c_test.go:9: no such tool", "1 passed, 2 failed, 1 skipped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "noise") {
		t.Errorf("the report repeats a good test's output:\n%s", &out)
	}
}
