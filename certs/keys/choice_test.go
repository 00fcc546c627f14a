package keys_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"

	"penstock/certs/keys"
	"penstock/certs/keys/keystest"
	"penstock/internal/disk"
	"penstock/internal/disk/faultdisk"
)

const dir = "/identity"

// chip is a TPM that is broken when err is set. What its texts hold is a secret of
// this test only.
type chip struct {
	err   error
	wrong bool // its signatures are
	made  int
}

func (c *chip) Create() (crypto.Signer, []byte, error) {
	if c.err != nil {
		return nil, nil, c.err
	}
	c.made++
	key, text, err := keys.File{Rand: rand.Reader}.Create()
	return solder{key, c}, bytes.ReplaceAll(text, []byte("PRIVATE KEY"), []byte(keys.TPMText)), err
}

func (c *chip) Open(text []byte) (crypto.Signer, error) {
	key, err := keys.File{}.Open(bytes.ReplaceAll(text, []byte(keys.TPMText), []byte("PRIVATE KEY")))
	return solder{key, c}, err
}

func (c *chip) Trouble() error { return c.err }

type solder struct {
	crypto.Signer
	chip *chip
}

func (s solder) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.chip.err != nil {
		return nil, s.chip.err
	}
	if s.chip.wrong {
		digest = bytes.Repeat([]byte{1}, len(digest))
	}
	return s.Signer.Sign(nil, digest, opts)
}

func folder(t *testing.T) *faultdisk.Disk {
	t.Helper()
	d := faultdisk.New()
	if err := disk.MkdirAll(d, dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func choice(d disk.FS, c *chip) *keys.Choice {
	ch := &keys.Choice{FS: d, Dir: dir, File: keys.File{Rand: rand.Reader}}
	if c != nil {
		ch.TPM = c
	}
	return ch
}

func kindOf(t *testing.T, text []byte) keys.Kind {
	t.Helper()
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		t.Fatalf("%q is no PEM", text)
	case block.Type == keys.TPMText:
		return keys.InTPM
	}
	return keys.InFile
}

var errBroken = errors.New("TPM_RC_FAILURE")

func TestChoiceConforms(t *testing.T) {
	for name, c := range map[string]*chip{"no TPM in this firmware": nil, "a TPM": {}, "a broken TPM": {err: errBroken}} {
		t.Run(name, func(t *testing.T) {
			d := folder(t)
			keystest.Conformance(t, choice(d, c), func() keys.Store { return choice(d.AfterCut(1), c) })
		})
	}
}

func TestTheChoiceIsMadeOnceAndForEver(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first *chip
		then  *chip
		want  keys.Kind
		says  string // of the reason
		fails bool   // then
	}{
		{"a TPM that works", &chip{}, &chip{}, keys.InTPM, "it worked", false},
		{"a TPM that breaks later", &chip{}, &chip{err: errBroken}, keys.InTPM, "it worked", true},
		{"a TPM that this firmware does not know any more", &chip{}, nil, keys.InTPM, "it worked", true},
		{"a TPM that is broken", &chip{err: errBroken}, &chip{err: errBroken}, keys.InFile, "TPM_RC_FAILURE", false},
		{"a TPM that is broken, and mended later", &chip{err: errBroken}, &chip{}, keys.InFile, "TPM_RC_FAILURE", false},
		{"a TPM that makes keys and signs wrong", &chip{wrong: true}, &chip{}, keys.InFile, "a first signature is wrong", false},
		{"a firmware without", nil, &chip{}, keys.InFile, "built without TPM support", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := folder(t)
			_, text, err := choice(d, tc.first).Create()
			if err != nil || kindOf(t, text) != tc.want {
				t.Fatalf("the first key is in the %s, %v", kindOf(t, text), err)
			}
			if tc.then != nil {
				tc.then.made = 0
			}
			c := choice(d.AfterCut(3), tc.then)
			if s := c.Status(); s.Kind != tc.want || !strings.Contains(s.Because, tc.says) || (s.Problem != "") != (tc.fails && tc.then != nil) {
				t.Errorf("the status is %+v", s)
			}
			_, text, err = c.Create()
			switch {
			case tc.fails && err == nil:
				t.Errorf("the second key is in the %s", kindOf(t, text))
			case !tc.fails && (err != nil || kindOf(t, text) != tc.want):
				t.Errorf("the second key is in the %s, %v", kindOf(t, text), err)
			}
			if tc.then != nil && tc.want == keys.InFile && tc.then.made > 0 {
				t.Error("the TPM was tried again")
			}
		})
	}
}

func TestAnOperatorMayInsist(t *testing.T) {
	c := choice(folder(t), &chip{err: errBroken})
	c.Want = keys.InTPM
	if _, _, err := c.Create(); !errors.Is(err, errBroken) {
		t.Errorf("he wants the TPM or nothing: %v", err)
	}
	if s := c.Status(); s.Kind != "" {
		t.Errorf("a choice was made: %+v", s)
	}
	c = choice(folder(t), &chip{})
	c.Want = keys.InFile
	_, text, err := c.Create()
	if err != nil || kindOf(t, text) != keys.InFile {
		t.Errorf("he wants a file: %s, %v", text, err)
	}
	if s := c.Status(); s.Kind != keys.InFile || s.Because != "the operator wanted it" {
		t.Errorf("the status is %+v", s)
	}
	c.Want = keys.InTPM
	if _, _, err := c.Create(); err == nil || !strings.Contains(err.Error(), "-replace") {
		t.Errorf("he has changed his mind: %v", err)
	}
	if _, err := c.Open(text); err == nil || !strings.Contains(err.Error(), "-replace") {
		t.Errorf("he has changed his mind: %v", err)
	}
}

func TestAFolderThatCameWithItsKeyStaysWithItsKind(t *testing.T) {
	for want, from := range map[keys.Kind]keys.Store{keys.InFile: keys.File{Rand: rand.Reader}, keys.InTPM: &chip{}} {
		d := folder(t)
		_, text, err := from.Create()
		if err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFile(d, dir+"/key.pem", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, text, err := choice(d, &chip{}).Create(); err != nil || kindOf(t, text) != want {
			t.Errorf("a key in the %s beside one in the %s, %v", kindOf(t, text), want, err)
		}
	}
}

func TestAKeyOfATPMThatFailsSaysWhatToDo(t *testing.T) {
	d, c := folder(t), &chip{}
	key, text, err := choice(d, c).Create()
	if err != nil {
		t.Fatal(err)
	}
	c.err = errBroken
	again, err := choice(d, c).Open(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{key, again} {
		if err := keys.Check(k); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "in its TPM") || !strings.Contains(err.Error(), "penstock provision -replace") {
			t.Errorf("err = %v", err)
		}
	}
	if _, err := choice(d, nil).Open(text); err == nil || !strings.Contains(err.Error(), "without TPM support") {
		t.Errorf("err = %v", err)
	}
}

func TestADamagedRecordIsToldAndNotReplaced(t *testing.T) {
	for _, bad := range []string{"", "{", `{"store":"cloud"}`, `{"store":"file","colour":1}`} {
		d := folder(t)
		if err := disk.WriteFile(d, dir+"/keys.json", []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		c := choice(d, &chip{})
		if _, _, err := c.Create(); err == nil || !strings.Contains(err.Error(), dir+"/keys.json") {
			t.Errorf("%q: %v", bad, err)
		}
		if s := c.Status(); s.Problem == "" {
			t.Errorf("%q: nobody is told", bad)
		}
	}
}

// TestThePowerMayGoWhileTheChoiceIsMade cuts it at every write, and has the TPM
// break or mend while it is away.
func TestThePowerMayGoWhileTheChoiceIsMade(t *testing.T) {
	// The story, as certs tells it: the first key is made, its text written.
	life := func(d disk.FS, c *chip) (keys.Kind, bool) {
		_, text, err := choice(d, c).Create()
		if err == nil {
			err = disk.WriteFile(d, dir+"/key.pem", text, 0o600)
		}
		if err != nil && !errors.Is(err, faultdisk.ErrPowerCut) && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if err != nil {
			return "", false
		}
		return kindOf(t, text), true
	}
	for name, chips := range map[string][2]*chip{"mended": {{err: errBroken}, {}}, "broken": {{}, {err: errBroken}}} {
		d := folder(t)
		before := d.Operations()
		if _, done := life(d, chips[0]); !done {
			t.Fatal("the story does not end")
		}
		total := d.Operations()
		for n := before + 1; n <= total; n++ {
			for seed := range uint64(6) {
				d := folder(t)
				d.CutAt(n)
				kind, done := life(d, chips[0])
				after := d.AfterCut(seed)
				s := choice(after, chips[1]).Status()
				if s.Problem != "" && s.Kind != keys.InTPM {
					t.Fatalf("%s, cut at %d, seed %d: %s", name, n, seed, s.Problem)
				}
				if done && s.Kind != kind {
					t.Fatalf("%s, cut at %d, seed %d: a key in the %s was made, and the record says %q", name, n, seed, kind, s.Kind)
				}
				_, text, err := choice(after, chips[1]).Create()
				if s.Kind != "" && err == nil && kindOf(t, text) != s.Kind {
					t.Fatalf("%s, cut at %d, seed %d: the record says %s, and the next key is in the %s", name, n, seed, s.Kind, kindOf(t, text))
				}
				if err != nil && s.Kind != keys.InTPM {
					t.Fatalf("%s, cut at %d, seed %d: %v", name, n, seed, err)
				}
			}
		}
	}
}
