package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/internal/clock"
)

// run runs a program of others against p.
func run(t *testing.T, p *tpmtest.TPM, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI="+p.TCTI(), "TPM2TOOLS_TCTI="+p.TCTI())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// needsOpenSSL looks for openssl and its provider for TPMs.
func needsOpenSSL(t *testing.T) {
	t.Helper()
	tpmtest.Needs(t, "openssl", "openssl")
	out, err := exec.Command("openssl", "version", "-m").Output() // MODULESDIR: "/usr/lib/..."
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(out)), "MODULESDIR: "), `"`)
	if _, err := os.Stat(filepath.Join(dir, "tpm2.so")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("openssl's provider for TPMs is missing, and CI is set: %v", err)
		}
		t.Skip("openssl's provider for TPMs is missing (Debian: tpm2-openssl)")
	}
}

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// parents are the two ways in which a key's parent is there.
var parents = map[string]func(*testing.T, *tpmtest.TPM){
	"the storage root key is made when it is needed": func(*testing.T, *tpmtest.TPM) {},
	"the storage root key is persistent": func(t *testing.T, p *tpmtest.TPM) {
		root := filepath.Join(t.TempDir(), "root.ctx")
		run(t, p, "tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", root,
			"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
		run(t, p, "tpm2_evictcontrol", "-Q", "-C", "o", "-c", root, "0x81000001")
		run(t, p, "tpm2_flushcontext", "-t")
	},
}

func TestOpenSSLSignsWithOurKey(t *testing.T) {
	needsOpenSSL(t)
	tpmtest.Needs(t, "tpm2_createprimary", "tpm2-tools")
	for name, prepare := range parents {
		t.Run(name, func(t *testing.T) {
			p := tpmtest.New(t)
			prepare(t, p)
			key, text, err := tpm.New(p.Open, clock.System).Create()
			if err != nil {
				t.Fatal(err)
			}
			message := []byte("what is signed")
			if persistent := strings.Contains(name, "persistent"); bytes.Contains(decode(t, text), []byte{2, 5, 0, 0x81, 0, 0, 1}) != persistent {
				t.Error("the key file names another parent")
			}
			signature := filepath.Join(t.TempDir(), "signature")
			run(t, p, "openssl", "pkeyutl", "-provider", "tpm2", "-provider", "base", "-rawin", "-digest", "sha256",
				"-sign", "-inkey", write(t, "key.pem", text), "-in", write(t, "message", message), "-out", signature)
			digest := sha256.Sum256(message)
			made, err := os.ReadFile(signature)
			if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], made) {
				t.Fatalf("openssl's signature is wrong, or %v", err)
			}
		})
	}
}

func TestWeSignWithTheKeyOfOpenSSL(t *testing.T) {
	needsOpenSSL(t)
	p := tpmtest.New(t)
	file := filepath.Join(t.TempDir(), "key.pem")
	run(t, p, "openssl", "genpkey", "-provider", "tpm2", "-provider", "default", "-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm.New(p.Open, clock.System).Open(text)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pem.Decode(run(t, p, "openssl", "pkey", "-provider", "tpm2", "-provider", "default", "-in", file, "-pubout"))
	if public == nil {
		t.Fatal("openssl shows no public key")
	}
	theirs, err := x509.ParsePKIXPublicKey(public.Bytes)
	if err != nil || !theirs.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Fatalf("openssl sees another public key than we do, or %v", err)
	}
	digest := sha256.Sum256([]byte("what is signed"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(theirs.(*ecdsa.PublicKey), digest[:], signature) {
		t.Fatalf("the signature is wrong, or %v", err)
	}
}

// TestTheKeyIsWhatItShouldBe asks another program what the TPM knows of our key.
func TestTheKeyIsWhatItShouldBe(t *testing.T) {
	tpmtest.Needs(t, "tpm2_print", "tpm2-tools")
	p := tpmtest.New(t)
	_, text, err := tpm.New(p.Open, clock.System).Create()
	if err != nil {
		t.Fatal(err)
	}
	out := string(run(t, p, "tpm2_print", "-t", "TSSPRIVKEY_OBJ", write(t, "key.pem", text)))
	for _, want := range []string{
		"fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign\n", "NIST p256", "value: ecdsa", "value: sha256",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what tpm2_print says:\n%s", want, out)
		}
	}
}

func decode(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}
