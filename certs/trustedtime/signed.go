package trustedtime

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"penstock/certs/pki"
)

// Client asks the auth service for signed time.
type Client struct {
	URL   string                // of the auth service, https://host:port
	Roots func() *x509.CertPool // of now
	// Cert is what the gateway shows: its factory identity, which does not expire in
	// a drawer.
	Cert func() (*tls.Certificate, error)
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Rand io.Reader
}

const maxAnswer = 4 << 10

// Ask asks once and takes the answer into the clock.
func (k *Client) Ask(ctx context.Context, c *Clock) error {
	u, err := url.Parse(k.URL)
	if err != nil {
		return err
	}
	var nonce [pki.NonceSize]byte
	if _, err := io.ReadFull(k.Rand, nonce[:]); err != nil {
		return err
	}
	question, err := json.Marshal(map[string][]byte{"nonce": nonce[:]})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(u.String(), "/")+"/v1/time", bytes.NewReader(question))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	roots := k.Roots()
	transport := &http.Transport{DialContext: k.Dial, TLSClientConfig: k.policy(u.Hostname(), roots, c),
		DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	// The server cannot have signed before it was asked, however long the connection
	// took to come up.
	asked := c.machine.Uptime()
	trace := &httptrace.ClientTrace{WroteHeaders: func() { asked = c.machine.Uptime() }}
	res, err := client.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	answered := c.machine.Uptime()
	if err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("asking for the time: the auth service answered %s", res.Status)
	}
	var a pki.TimeAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("asking for the time: the answer is not the JSON of a time: %w", err)
	}
	if res.TLS == nil {
		return errors.New("asking for the time: the answer did not come over TLS")
	}
	t, err := pki.CheckTime(a, nonce[:], res.TLS.PeerCertificates, roots)
	if err != nil {
		return fmt.Errorf("asking for the time: %w", err)
	}
	return c.Raise(t, asked, answered)
}

// policy is how the server is judged: dates and all, once our own service has told
// the time in this boot; before that, all but the dates.
func (k *Client) policy(host string, roots *x509.CertPool, c *Clock) *tls.Config {
	if _, _, sure := c.Booted(); sure {
		return pki.ForServer(host, k.Cert, roots, c.Floor, nil)
	}
	return pki.ForTime(host, k.Cert, roots)
}

// How long Keep waits: after a good answer, and after failures, doubling.
const (
	askEvery   = 12 * time.Hour
	spread     = 500 * time.Millisecond
	retryFirst = 2 * time.Second
	retryMost  = 5 * time.Minute
	askTimeout = 30 * time.Second
	// An answer that leaves more doubt than this is asked for again, a few times.
	wellKnown = 300 * time.Millisecond
	askAgain  = 4
)

// Keep asks until ctx ends: soon after the start, every twelve hours, and when it
// failed again and again at random times further and further apart. Where the answer
// was long under way, it asks again soon for a better one. random is in
// [0, 1). failed, if not nil, is told of each try: nil when it was good.
func (k *Client) Keep(ctx context.Context, c *Clock, random func() float64, failed func(error)) {
	wait := time.Duration(random() * float64(spread)) // a fleet that got its power back together
	pause, poor := retryFirst, 0
	for c.Sleep(ctx, wait) == nil {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		err := k.Ask(attempt, c)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if failed != nil {
			failed(err)
		}
		if err == nil && c.Doubt() > wellKnown && poor < askAgain {
			poor++
			wait = time.Duration(poor) * retryFirst
			continue
		}
		if err == nil {
			pause, poor = retryFirst, 0
			wait = askEvery - time.Duration(random()*float64(askEvery/4))
			continue
		}
		pause = min(2*pause, retryMost)
		wait = time.Duration(random() * float64(pause))
	}
}
