// Package house holds the rules of the house as tests.
//
// A rule that nobody checks is a wish. These tests read the source of the
// whole module: who imports whom, which packages are documented, what the
// firmware links, who looks at a clock that was not handed to them, who waits
// without a bound, and who could open a network listener.
package house
