package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"encoding/pem"
	"io"
	"os/exec"
	"testing"
	"time"

	"penstock/certs/keys"
	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/internal/clock"
)

// aKey is a key file of a TPM that is gone.
const aKey = `-----BEGIN TSS2 PRIVATE KEY-----
MIHyBgZngQUKAQOgAwEB/wIEQAAAAQRaAFgAIwALAAQEcgAAABAAGAALAAMAEAAg
2sx38KtucAQc48SsMZSd7p1UKdHx5j8YVJBsHjz9B7MAIF11lWPf5VYhvXnXWkRf
tAQZNP8e7/Ikr19M3gNyHCKsBIGAAH4AIMvLmxpybAwH14X8+zAweSDpmb0+PJgf
W3lRUVxjdIqOABDhi3/QP7a8SZKg/ETbe2ckdyHWk5KwabYietf+ldPq9cX+k9+f
pvBpX+JKYPGFxq+1pGmUl2DJnMwzoDYdE4YzeqRMFVf/P4yoZnnMwjm2v31apDfF
JKf9OJY=
-----END TSS2 PRIVATE KEY-----
`

// script answers commands with what it has left, whatever they ask.
type script struct{ left []byte }

func (s *script) Write(b []byte) (int, error) { return len(b), nil }
func (s *script) Close() error                { return nil }
func (s *script) Read(b []byte) (int, error) {
	n := len(s.left)
	if n >= 10 { // as far as the response says that it goes
		n = int(min(uint64(n), uint64(binary.BigEndian.Uint32(s.left[2:]))))
	}
	if n == 0 {
		return 0, io.EOF
	}
	n = copy(b, s.left[:n])
	s.left = s.left[n:]
	return n, nil
}

// impatient is a clock whose waits are over at once.
type impatient struct{ clock.Clock }

func (impatient) Sleep(context.Context, time.Duration) error { return nil }

// FuzzAnswers has a TPM that answers whatever it likes: that is an error or a good
// key, and never the end of the firmware.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22})
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0})
	if _, err := exec.LookPath("swtpm"); err == nil {
		p := tpmtest.New(f)
		for range 2 {
			var heard bytes.Buffer
			if _, _, err := tpm.New(func() (io.ReadWriteCloser, error) {
				c, err := p.Open()
				return meddler{c, nil, func(response []byte) []byte { heard.Write(response); return response }}, err
			}, clock.System).Create(); err != nil {
				f.Fatal(err)
			}
			f.Add(heard.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, answers []byte) {
		s := tpm.New(func() (io.ReadWriteCloser, error) { return &script{answers}, nil }, impatient{})
		_, text, err := s.Create()
		if err != nil {
			return
		}
		again, err := s.Open(text)
		if err != nil {
			t.Fatalf("a key that was made cannot be opened: %v\n%s", err, text)
		}
		_, _ = again.Sign(nil, make([]byte, 32), crypto.SHA256)
	})
}

// FuzzKeyFile reads key files of anybody.
func FuzzKeyFile(f *testing.F) {
	block, _ := pem.Decode([]byte(aKey))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		s := tpm.New(func() (io.ReadWriteCloser, error) { return nil, io.EOF }, clock.System)
		key, err := s.Open(pem.EncodeToMemory(&pem.Block{Type: keys.TPMText, Bytes: der}))
		if err == nil && key.Public() == nil {
			t.Error("a key without a public part")
		}
	})
}
