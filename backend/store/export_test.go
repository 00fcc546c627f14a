package store

import "testing"

// FileAfter has stores that are opened in this test file after so many records.
func FileAfter(t *testing.T, records int) {
	before := filingRows
	t.Cleanup(func() { filingRows = before })
	filingRows = records
}
