package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
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

// Assignment is the auth service's answer: the endpoint to use, and until when.
type Assignment struct {
	Endpoint string    `json:"endpoint"` // mqtts://host:8883
	Expires  time.Time `json:"expires,omitzero"`
}

// host is the endpoint as host:port.
func (a Assignment) host() (string, error) {
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.Scheme != "mqtts" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("%q is not an endpoint of the form mqtts://host:port", a.Endpoint)
	}
	port := u.Port()
	if port == "" {
		port = "8883"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("endpoint %q: port %s is not between 1 and 65535", a.Endpoint, port)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// Problem is an error answer of the auth service (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// RetryAfter is how long the service asks to be left alone, 0 if it did not.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	text := fmt.Sprintf("the auth service answered %d", p.Status)
	if p.Title != "" {
		text += " " + p.Title
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

// refusal tells whether the answer is about us, and not about the service's own
// trouble or a momentary one.
func (p *Problem) refusal() bool {
	return p.Status >= 400 && p.Status < 500 && p.Status != http.StatusRequestTimeout && p.Status != http.StatusTooManyRequests
}

// AuthClient asks the auth service over HTTPS with mutual TLS. A connection is
// opened for each question: they are minutes to months apart.
type AuthClient struct {
	url  string
	host string
	tls  func(serverName string) *tls.Config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	clk  clock.Clock
}

const (
	assignTimeout = 25 * time.Second
	maxAnswer     = 64 << 10
)

// NewAuthClient makes a client of the auth service at base, an https URL.
func NewAuthClient(base string, tlsConfig func(serverName string) *tls.Config, dial func(ctx context.Context, network, address string) (net.Conn, error), clk clock.Clock) (*AuthClient, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("auth URL %q is not of the form https://host:port", base)
	}
	return &AuthClient{
		url: strings.TrimSuffix(u.String(), "/") + "/v1/assignment", host: u.Hostname(),
		tls: tlsConfig, dial: dial, clk: clk,
	}, nil
}

// Assign asks for an endpoint. failed names the one (host:port) that could not
// be reached, or is empty. The error is a *Problem if the service gave one.
func (c *AuthClient) Assign(ctx context.Context, failed string) (Assignment, error) {
	ctx, cancel := withTimeout(ctx, c.clk, assignTimeout)
	defer cancel()
	question := struct {
		Failed string `json:"failed,omitempty"`
	}{failed}
	body, err := json.Marshal(question)
	if err != nil {
		return Assignment{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return Assignment{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, application/problem+json")
	transport := &http.Transport{DialContext: c.dial, TLSClientConfig: c.tls(c.host), DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer}
	client := http.Client{
		Transport: transport,
		// Whoever could redirect us could choose our endpoint.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer transport.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return Assignment{}, fmt.Errorf("asking the auth service for an endpoint: %w", cause(ctx, err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Assignment{}, fmt.Errorf("asking %s: reading the answer: %w", c.url, cause(ctx, err))
	}
	if len(answer) > maxAnswer {
		return Assignment{}, fmt.Errorf("asking %s: an answer of more than %d bytes", c.url, maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return Assignment{}, fmt.Errorf("asking %s: %w", c.url, c.problem(resp, answer))
	}
	var a Assignment
	if err := json.Unmarshal(answer, &a); err != nil {
		return Assignment{}, fmt.Errorf("asking %s: the answer is not the JSON of an assignment: %w", c.url, err)
	}
	if _, err := a.host(); err != nil {
		return Assignment{}, fmt.Errorf("asking %s: %w", c.url, err)
	}
	return a, nil
}

func (c *AuthClient) problem(resp *http.Response, body []byte) *Problem {
	p := &Problem{}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/problem+json" {
		if json.Unmarshal(body, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = resp.StatusCode // what the connection said counts, not the body
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		p.Detail = "redirects are not followed; the auth URL must be the service's own"
	}
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), c.clk.Now())
	return p
}

// retryAfter reads RFC 9110, section 10.2.3: seconds or a date. No answer makes a
// gateway wait for more than a day.
func retryAfter(v string, now time.Time) time.Duration {
	const longest = 24 * time.Hour
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, longest)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(min(t.Sub(now), longest), 0)
	}
	return 0
}

// refusedByPeer tells whether the other side turned us away as who we are: by a
// CONNACK, a TLS alert or an HTTP status, as against not being reachable.
func refusedByPeer(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.refusal()
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" || isConnackRefusal(err)
}

// identityRefused tells whether refusedByPeer holds because of who we are: other
// answers of the auth service, such as 404, say nothing about a certificate.
func identityRefused(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden
	}
	return refusedByPeer(err)
}
