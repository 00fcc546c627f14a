package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/pki"
	"penstock/certs/pki/pkitest"
)

// TestAttackByOpenSSL plays rows with a client that shares no code with ours, and
// that does what it is told: at security level 0 it offers old versions and weak
// ciphers, and it sends whatever certificate it was given.
func TestAttackByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing, and CI is set")
		}
		t.Skip("openssl is missing (Debian: openssl)")
	}
	s := newStage(t, pki.DefaultLimits)
	good := files(t, s.Enrolled(t, "GW-0001"))
	like := gatewayLike(t, s.Authorities, "GW-0001")
	like.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, tc := range []struct {
		name, says string
		args       []string
	}{
		{"TLS 1.0", "too old", append([]string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, good...)},
		{"TLS 1.1", "too old", append([]string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, good...)},
		{"CBC", "no cipher", append([]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"}, good...)},
		{"RSA key exchange", "no cipher", append([]string{"-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"}, good...)},
		{"no encryption", "no cipher", append([]string{"-tls1_2", "-cipher", "NULL:@SECLEVEL=0"}, good...)},
		{"no authentication", "no cipher", append([]string{"-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"}, good...)},
		{"no certificate", "no certificate", []string{"-tls1_3"}},
		{"another authority", "another authority", append([]string{"-tls1_3"}, files(t, pkitest.New(t).Enrolled(t, "GW-0001"))...)},
		{"self-signed", "another authority", append([]string{"-tls1_3"}, files(t, selfSigned(t, gatewayLike(t, s.Authorities, "GW-0001")))...)},
		{"a server's certificate", "not for this use", append([]string{"-tls1_3"}, files(t, s.Server(t, "localhost"))...)},
		{"wrong usage", "not for this use", append([]string{"-tls1_2"}, files(t, pkitest.Forge(t, s.Operational, like, s.Operational.Certificate))...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conns := s.conns.Load()
			if out := sClient(t, openssl, s, append([]string{"-tls1_3"}, good...)); !strings.Contains(out, "welcome") {
				t.Fatalf("the control failed:\n%s", out)
			}
			if out := sClient(t, openssl, s, tc.args); strings.Contains(out, "welcome") {
				t.Errorf("the attacker was let in:\n%s", out)
			}
			s.mustHaveRefused(t, tc.says)
			if n := s.conns.Load() - conns; n != 1 { // the control's
				t.Errorf("%d connections reached the application", n)
			}
		})
	}
}

// files writes a certificate for openssl's command line.
func files(t *testing.T, c tls.Certificate) []string {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range c.Certificate {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, parsed)
	}
	key, err := pki.EncodeKey(c.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	names := map[string][]byte{"leaf.pem": pki.EncodeCertificates(chain[0]), "chain.pem": pki.EncodeCertificates(chain...), "key.pem": key}
	for name, text := range names {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"-cert", filepath.Join(folder, "leaf.pem"), "-key", filepath.Join(folder, "key.pem"), "-cert_chain", filepath.Join(folder, "chain.pem")}
}

// sClient says a line to the stage by openssl, and returns what openssl printed.
func sClient(t *testing.T, openssl string, s *stage, args []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, append([]string{"s_client", "-connect", s.addr, "-servername", "localhost", "-quiet", "-no_ign_eof"}, args...)...)
	// Without an end of its input openssl stays for the answer; the test ends it.
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &watched{until: "welcome", found: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("let me in\n"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // a refused client ends with an error
	}()
	select {
	case <-out.found:
		in.Close()
		<-ended
	case <-ended:
	}
	return out.text.String()
}

// watched closes found once a text has come.
type watched struct {
	text  bytes.Buffer
	until string
	found chan struct{}
	done  bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.done && strings.Contains(w.text.String(), w.until) {
		w.done = true
		close(w.found)
	}
	return len(p), nil
}
