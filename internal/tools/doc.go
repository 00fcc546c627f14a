// Package tools is a module of its own that pins the programs which check and
// generate Penstock's code, so that they never weigh on its go.mod.
//
// Run one from the top of the repository:
//
//	go tool -modfile=internal/tools/go.mod golangci-lint run
package tools
