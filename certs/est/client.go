package est

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"penstock/internal/clock"
)

const (
	timeout   = 60 * time.Second
	maxAnswer = 128 << 10
	// longest is how long a Retry-After can make a gateway wait.
	longest = 24 * time.Hour
)

// Error is an answer of the server that is not what was asked for.
type Error struct {
	Status     int
	Detail     string
	RetryAfter time.Duration // 0: it did not say
}

func (e *Error) Error() string {
	text := fmt.Sprintf("the EST server answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Client asks one EST server. Each question has a connection of its own: they
// are days to months apart.
type Client struct {
	base, host string
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	clock      clock.Clock
}

// NewClient makes a client of the server at base, such as
// https://auth.example.com:8443. dial is nil for the machine's usual way.
func NewClient(base string, dial func(ctx context.Context, network, address string) (net.Conn, error), clk clock.Clock) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("the EST server's URL %q is not of the form https://host:port", base)
	}
	return &Client{base: strings.TrimSuffix(u.String(), "/") + "/.well-known/est/", host: u.Hostname(), dial: dial, clock: clk}, nil
}

// Host is the name that the server's certificate must be for.
func (c *Client) Host() string { return c.host }

// CACerts asks for the server's authorities.
func (c *Client) CACerts(ctx context.Context, config *tls.Config) ([]*x509.Certificate, error) {
	body, err := c.ask(ctx, config, http.MethodGet, "cacerts", nil)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertsOnly(body)
	if err != nil {
		return nil, fmt.Errorf("asking %scacerts: %w", c.base, err)
	}
	return certs, nil
}

// Attributes asks what a request should contain; nil where the server has no
// wishes.
func (c *Client) Attributes(ctx context.Context, config *tls.Config) (Attributes, error) {
	body, err := c.ask(ctx, config, http.MethodGet, "csrattrs", nil)
	var e *Error
	if errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusNoContent) {
		return nil, nil // RFC 7030, 4.5.2: it has none
	}
	if err != nil || len(body) == 0 {
		return nil, err
	}
	attrs, err := ParseAttributes(body)
	if err != nil {
		return nil, fmt.Errorf("asking %scsrattrs: %w", c.base, err)
	}
	return attrs, nil
}

// Enroll asks for a certificate. The request is DER. The certificate comes first,
// then whatever else the server sent of its chain.
func (c *Client) Enroll(ctx context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error) {
	return c.enroll(ctx, config, "simpleenroll", request)
}

// Reenroll is Enroll with the certificate that is to be replaced.
func (c *Client) Reenroll(ctx context.Context, config *tls.Config, request []byte) ([]*x509.Certificate, error) {
	return c.enroll(ctx, config, "simplereenroll", request)
}

func (c *Client) enroll(ctx context.Context, config *tls.Config, what string, request []byte) ([]*x509.Certificate, error) {
	body, err := c.ask(ctx, config, http.MethodPost, what, request)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertsOnly(body)
	if err != nil {
		return nil, fmt.Errorf("asking %s%s: %w", c.base, what, err)
	}
	asked, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, err
	}
	// A bag has no order: the certificate is the one for the key that we asked for.
	for i, cert := range certs {
		if bytes.Equal(asked.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			certs[0], certs[i] = certs[i], certs[0]
			return certs, nil
		}
	}
	return nil, fmt.Errorf("asking %s%s: none of the certificates in the answer is for the key that was asked for", c.base, what)
}

// ask does one exchange and returns the body, decoded.
func (c *Client) ask(ctx context.Context, config *tls.Config, method, what string, body []byte) ([]byte, error) {
	text, err := c.exchange(ctx, config, method, what, body)
	if err != nil {
		return nil, fmt.Errorf("asking %s%s: %w", c.base, what, err)
	}
	der, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("asking %s%s: the answer is not base64: %w", c.base, what, err)
	}
	return der, nil
}

// decode reads base64 with whatever line breaks; RFC 7030 and RFC 8951 differ.
func decode(text []byte) ([]byte, error) {
	text = bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, text)
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(der, text)
	return der[:n], err
}

func (c *Client) exchange(ctx context.Context, config *tls.Config, method, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if c.clock.Sleep(ctx, timeout) == nil {
			cancel(fmt.Errorf("no answer within %v", timeout))
		}
	}()
	var payload io.Reader
	if body != nil {
		payload = strings.NewReader(base64.StdEncoding.EncodeToString(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+what, payload)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/pkcs10")
		req.Header.Set("Content-Transfer-Encoding", "base64")
	}
	transport := &http.Transport{DialContext: c.dial, TLSClientConfig: config, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer}
	client := http.Client{
		Transport: transport,
		// RFC 7030, 3.2.1 lets a client follow with its owner's consent, and there
		// is no owner here.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer transport.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, because(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, because(ctx, err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refused(resp, answer)
	}
	return answer, nil
}

// because prefers the reason for which ctx ended to "context canceled".
func because(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) refused(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		e.Detail = "redirects are not followed; the auth URL must be the service's own"
	case resp.StatusCode == http.StatusAccepted:
		e.Detail = "the request waits for somebody's consent there"
	case kind == "application/problem+json":
		var p struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body, &p) == nil {
			e.Detail = p.Detail
		}
	case kind == "text/plain":
		e.Detail = strings.TrimSpace(string(body[:min(len(body), 200)]))
	}
	if v := resp.Header.Get("Retry-After"); v != "" {
		if n, err := strconv.ParseUint(v, 10, 32); err == nil {
			e.RetryAfter = min(time.Duration(n)*time.Second, longest)
		} else if t, err := http.ParseTime(v); err == nil {
			e.RetryAfter = max(min(t.Sub(c.clock.Now()), longest), 0)
		}
	}
	return e
}
