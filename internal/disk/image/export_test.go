package image

import "testing"

// Find is find, for the fuzzer.
var Find = find

// ToolsIn has the programs looked for in a folder alone.
func ToolsIn(t *testing.T, dir string) {
	t.Setenv("PATH", dir)
	was := toolDirs
	toolDirs = nil
	t.Cleanup(func() { toolDirs = was })
}
