// Package wirepb is the generated form of penstock.proto, for the backend and
// for tests. The firmware does not link it: reflection costs it a megabyte, and
// package wire writes the same bytes by hand.
package wirepb

//go:generate protoc -I.. --plugin=protoc-gen-go=./protoc-gen-go.sh --go_out=. --go_opt=paths=source_relative penstock.proto
