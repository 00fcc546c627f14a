package link

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func TestANameInLocalThatIsNotFoundSaysWhy(t *testing.T) {
	for name, want := range map[string]bool{"laptop.local": true, "Laptop.Local.": true, "local": false, "laptop.example.com": false} {
		was := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
		err := explain(was)
		if got := strings.Contains(err.Error(), "use the address"); got != want || !errors.Is(err, was) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
