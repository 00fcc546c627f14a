// Package problem answers HTTP requests that fail, in the one form that every
// role of the backend uses: RFC 9457, application/problem+json.
package problem

import (
	"encoding/json"
	"net/http"
)

// Write answers with a status and a sentence that says what was wrong and, where
// it can, what would be right.
func Write(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the client went away
		"title": http.StatusText(status), "status": status, "detail": detail,
	})
}
