package operational

import (
	"net/http"
	"testing"
	"time"

	"penstock/certs/est"
)

// TestEnrolmentsThatHelpNobodyBecomeRare: the authority issues, and the endpoint
// refuses whatever it issued.
func TestEnrolmentsThatHelpNobodyBecomeRare(t *testing.T) {
	p := pace{rand: func() float64 { return 0 }}
	now := time.Unix(0, 0)
	attempts := 0
	for end := now.Add(30 * 24 * time.Hour); now.Before(end); now = p.until {
		p.attempted(now, fruitless, 0, 0)
		attempts++
	}
	if attempts > 75 { // once in half a day at most, after the first
		t.Errorf("%d enrolments in 30 days", attempts)
	}
}

// TestOnlyAnAnswerAboutTheKeyMakesAnother: other refusals are none of the key's.
func TestOnlyAnAnswerAboutTheKeyMakesAnother(t *testing.T) {
	for status, want := range map[int]bool{http.StatusForbidden: true, http.StatusBadRequest: true,
		http.StatusNotFound: false, http.StatusUnauthorized: false, http.StatusMethodNotAllowed: false, http.StatusRequestEntityTooLarge: false,
		http.StatusUnsupportedMediaType: false, http.StatusTooManyRequests: false, http.StatusServiceUnavailable: false} {
		if got := keyRefused(&est.Error{Status: status}); got != want {
			t.Errorf("%d: %v", status, got)
		}
	}
}
