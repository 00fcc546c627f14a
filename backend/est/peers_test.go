package est_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/pki"
)

// tool finds a program that somebody else wrote. Without it the test is skipped,
// or fails where CI is set.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing, and CI is set", name)
		}
		t.Skipf("%s is missing", name)
	}
	return path
}

func runTool(t *testing.T, in []byte, argv ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, &out, &stderr)
	}
	return out.Bytes()
}

// TestCurlAndOpensslEnrolWithoutOurCode: a whole enrolment and a renewal by two
// programs that know nothing of Penstock.
func TestCurlAndOpensslEnrolWithoutOurCode(t *testing.T) {
	curl, openssl := tool(t, "curl"), tool(t, "openssl")
	b := newBench(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if content != nil {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	key, chain := b.factory("GW-0001")
	text, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file("key.pem", text)
	file("cert.pem", pki.EncodeCertificates(chain...))
	file("roots.pem", b.ca.Roots())
	ask := func(identity string, what string, more ...string) []byte {
		return runTool(t, nil, append([]string{curl, "-sS", "--fail-with-body", "--cacert", file("roots.pem", nil),
			"--cert", file(identity+"cert.pem", nil), "--key", file(identity+"key.pem", nil), b.url + "/.well-known/est/" + what}, more...)...)
	}
	// What comes back, as openssl reads it.
	bag := func(base64 []byte) []*x509.Certificate {
		der := runTool(t, base64, openssl, "base64", "-d")
		certs, err := pki.ParseCertificates(pemOnly(runTool(t, der, openssl, "pkcs7", "-inform", "DER", "-print_certs")))
		if err != nil {
			t.Fatal(err)
		}
		return certs
	}
	enrol := func(identity, route, name string) []*x509.Certificate {
		runTool(t, nil, openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=GW-0001",
			"-keyout", file(name+"key.pem", nil), "-outform", "DER", "-out", file(name+"csr", nil))
		request := runTool(t, nil, openssl, "base64", "-in", file(name+"csr", nil))
		got := bag(ask(identity, route, "-H", "Content-Type: application/pkcs10", "--data-binary", "@"+file(name+"request", request)))
		file(name+"cert.pem", pki.EncodeCertificates(b.chain(got[0])...))
		return got
	}

	authorities := bag(ask("", "cacerts"))
	if len(authorities) != len(b.ca.Authorities()) {
		t.Errorf("openssl reads %d authorities", len(authorities))
	}
	wishes := string(runTool(t, runTool(t, ask("", "csrattrs"), openssl, "base64", "-d"), openssl, "asn1parse", "-inform", "DER"))
	if !strings.Contains(wishes, "prime256v1") || !strings.Contains(wishes, "ecdsa-with-SHA256") {
		t.Errorf("openssl reads these wishes:\n%s", wishes)
	}
	first := enrol("", "simpleenroll", "first-")
	second := enrol("first-", "simplereenroll", "second-")
	for i, got := range [][]*x509.Certificate{first, second} {
		g, err := pki.ReadGateway(got[0])
		if err != nil || g.Role != pki.Operational || g.Serial != "GW-0001" || len(got) != 1 {
			t.Errorf("certificate %d is for %+v, %v", i+1, g, err)
		}
	}
	// openssl agrees that the new certificate is good for a client.
	var between []*x509.Certificate
	for _, c := range authorities {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			between = append(between, c)
		}
	}
	runTool(t, nil, openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", file("roots.pem", nil),
		"-untrusted", file("between.pem", pki.EncodeCertificates(between...)), file("second-cert.pem", nil))
}

// pemOnly drops what openssl writes between the blocks.
func pemOnly(text []byte) (out []byte) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return out
		}
		out = append(out, pem.EncodeToMemory(block)...)
	}
}
