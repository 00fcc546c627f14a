package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"penstock/certs/keys"
	"penstock/certs/keys/keystest"
	"penstock/certs/keys/tpm"
	"penstock/certs/keys/tpm/tpmtest"
	"penstock/internal/clock"
)

var digest = sha256.Sum256([]byte("what is signed"))

func TestConformance(t *testing.T) {
	p := tpmtest.New(t)
	keystest.Conformance(t, tpm.New(p.Open, clock.System), func() keys.Store {
		p.Off()
		p.On()
		return tpm.New(p.Open, clock.System)
	})
	if n := loaded(t, p); n != 0 {
		t.Errorf("%d objects were left in the TPM", n)
	}
}

// loaded counts the keys that are loaded in a TPM.
func loaded(t *testing.T, p *tpmtest.TPM) int {
	t.Helper()
	c, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 10}.Execute(transport.FromReadWriter(c))
	if err != nil {
		t.Fatal(err)
	}
	handles, err := answer.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return len(handles.Handle)
}

// create makes a key in p.
func create(t *testing.T, p *tpmtest.TPM) (*tpm.Store, crypto.Signer, []byte) {
	t.Helper()
	s := tpm.New(p.Open, clock.System)
	key, text, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	return s, key, text
}

func TestAttackKeyOfATPMIsCopied(t *testing.T) {
	p, thief := tpmtest.New(t), tpmtest.New(t)
	_, key, text := create(t, p)
	// The thief has the disk, and a TPM of the same make.
	copied, err := tpm.New(thief.Open, clock.System).Open(text)
	if err != nil {
		t.Fatal(err)
	}
	if signature, err := copied.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("another TPM signs: %x, %v", signature, err)
	}
	// The control differs in the TPM alone.
	copied, err = tpm.New(p.Open, clock.System).Open(text)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := copied.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("the control does not sign: %v", err)
	}
}

func TestAKeyThatCouldHaveBeenCopiedIsRefused(t *testing.T) {
	p := tpmtest.New(t)
	s, _, text := create(t, p)
	block, _ := pem.Decode(text)
	attributes := []byte{0, 4, 0x04, 0x72} // sign, noDA, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM
	if bytes.Count(block.Bytes, attributes) != 1 {
		t.Fatalf("%x is not once in the key file", attributes)
	}
	for _, without := range []byte{0x02, 0x10, 0x20, 0x40} {
		changed := bytes.Replace(block.Bytes, attributes, []byte{0, 4, 0x04, 0x72 &^ without}, 1)
		if _, err := s.Open(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: changed})); err == nil {
			t.Errorf("a key without attribute %#x is opened", without)
		}
	}
}

func TestAKeyIsLostWhenTheTPMIsCleared(t *testing.T) {
	p := tpmtest.New(t)
	_, key, _ := create(t, p)
	c, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(transport.FromReadWriter(c))
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "before it was cleared") {
		t.Errorf("err = %v", err)
	}
}

func TestATPMThatIsGoneIsAnErrorUntilItIsBack(t *testing.T) {
	p := tpmtest.New(t)
	s, key, text := create(t, p)
	if err := s.Trouble(); err != nil {
		t.Errorf("trouble: %v", err)
	}
	p.Off()
	if _, err := key.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, fs.ErrNotExist) || !errors.Is(s.Trouble(), fs.ErrNotExist) {
		t.Errorf("err = %v, trouble: %v", err, s.Trouble())
	}
	if _, err := s.Open(text); err != nil {
		t.Errorf("the identity is lost with the TPM: %v", err)
	}
	p.On()
	if _, err := key.Sign(nil, digest[:], crypto.SHA256); err != nil || s.Trouble() != nil {
		t.Errorf("err = %v, trouble: %v", err, s.Trouble())
	}
}

func TestThereIsNoTPM(t *testing.T) {
	_, _, err := tpm.New(tpm.Device("/dev/no-such-tpm"), clock.System).Create()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "there is no TPM 2.0") || !strings.Contains(err.Error(), "/dev/no-such-tpm") {
		t.Errorf("err = %v", err)
	}
}

// TestATPMThatIsKilledInTheMiddle: at each command in turn.
func TestATPMThatIsKilledInTheMiddle(t *testing.T) {
	p := tpmtest.New(t)
	_, _, text := create(t, p)
	for n := 1; ; n++ {
		commands := 0
		s := tpm.New(func() (io.ReadWriteCloser, error) {
			c, err := p.Open()
			return meddler{c, func(command []byte) []byte {
				if commands++; commands == n {
					p.Off()
				}
				return command
			}, nil}, err
		}, clock.System)
		key, err := s.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = key.Sign(nil, digest[:], crypto.SHA256)
		if commands < n {
			if err != nil {
				t.Fatal(err)
			}
			if n < 5 {
				t.Fatalf("a signature took %d commands", n-1)
			}
			break
		}
		if flushing := n > 3; (err == nil) != flushing { // then the signature is there
			t.Errorf("killed at command %d: err = %v", n, err)
		}
		p.On()
	}
	if n := loaded(t, p); n != 0 {
		t.Errorf("%d objects were left in the TPM", n)
	}
}

// meddler is somebody between us and the TPM.
type meddler struct {
	io.ReadWriteCloser
	out func(command []byte) []byte  // nil: as it is
	in  func(response []byte) []byte // nil: as it is; in place
}

func (m meddler) Write(b []byte) (int, error) {
	if m.out != nil {
		b = m.out(b)
	}
	return m.ReadWriteCloser.Write(b)
}

func (m meddler) Read(b []byte) (int, error) {
	n, err := m.ReadWriteCloser.Read(b)
	if m.in != nil && err == nil {
		n = copy(b, m.in(b[:n]))
	}
	return n, err
}

func TestARoomFullOfOthersKeysIsAnErrorThatNamesIt(t *testing.T) {
	p := tpmtest.New(t)
	s, key, _ := create(t, p)
	c, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	var made []tpm2.TPMHandle
	for {
		answer, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(transport.FromReadWriter(c))
		if errors.Is(err, tpm2.TPMRCObjectMemory) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, answer.ObjectHandle)
	}
	c.Close()
	for range 3 {
		if _, err := key.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, tpm2.TPMRCObjectMemory) {
			t.Errorf("err = %v", err)
		}
	}
	if c, err = p.Open(); err != nil {
		t.Fatal(err)
	}
	// Room for one of the two that are needed: the one must not be left there.
	if _, err := (tpm2.FlushContext{FlushHandle: made[0]}).Execute(transport.FromReadWriter(c)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for range 3 {
		if _, err := key.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, tpm2.TPMRCObjectMemory) {
			t.Errorf("err = %v", err)
		}
	}
	if n := loaded(t, p); n != len(made)-1 {
		t.Errorf("%d objects are in the TPM, and others have %d there", n, len(made)-1)
	}
	if s.Trouble() == nil {
		t.Error("nobody is told")
	}
}

// fake is a TPM that answers every command with the same code.
type fake struct {
	code     uint32
	commands *atomic.Int64
	hang     chan struct{} // reads end when it is closed; nil: at once
}

func (f fake) Write(b []byte) (int, error) { f.commands.Add(1); return len(b), nil }
func (f fake) Close() error                { return nil }
func (f fake) Read(b []byte) (int, error) {
	if f.hang != nil {
		<-f.hang
		return 0, io.ErrUnexpectedEOF
	}
	b = binary.BigEndian.AppendUint32(append(b[:0], 0x80, 0x01, 0, 0, 0, 10), f.code)
	return len(b), nil
}

func TestATPMThatAsksForPatienceGetsIt(t *testing.T) {
	p := tpmtest.New(t)
	_, key, text := create(t, p)
	for _, code := range []uint32{0x922, 0x908, 0x90a, 0x920} { // retry, yielded, testing, NV rate
		refused := 0
		s := tpm.New(func() (io.ReadWriteCloser, error) {
			c, err := p.Open()
			return &later{ReadWriteCloser: c, code: code, refused: &refused}, err
		}, clock.System)
		again, err := s.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := again.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("%#x: %v", code, err)
		}
		if refused != 5 { // make the parent, load, sign, flush two
			t.Errorf("%#x was said %d times", code, refused)
		}
	}
}

// later is a TPM that answers each command with that code the first time.
type later struct {
	io.ReadWriteCloser
	code    uint32
	refused *int
	last    []byte // the command that was refused; nil: none
}

func (l *later) Write(b []byte) (int, error) {
	if l.last == nil {
		l.last = bytes.Clone(b)
		return len(b), nil
	}
	if !bytes.Equal(b, l.last) {
		return 0, errors.New("another command than the one that was put off")
	}
	l.last = nil
	return l.ReadWriteCloser.Write(b)
}

func (l *later) Read(b []byte) (int, error) {
	if l.last == nil {
		return l.ReadWriteCloser.Read(b)
	}
	*l.refused++
	return len(binary.BigEndian.AppendUint32(append(b[:0], 0x80, 0x01, 0, 0, 0, 10), l.code)), nil
}

// TestATPMThatIsBusyForGoodIsGivenUp plays the clock.
func TestATPMThatIsBusyForGoodIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commands atomic.Int64
		s := tpm.New(func() (io.ReadWriteCloser, error) { return fake{code: 0x922, commands: &commands}, nil }, clock.System)
		began := clock.System.Now()
		if _, _, err := s.Create(); !errors.Is(err, tpm.ErrSilent) {
			t.Errorf("err = %v", err)
		}
		if took := clock.System.Now().Sub(began); took != tpm.Patience {
			t.Errorf("it took %v", took)
		}
		if n := commands.Load(); n < 20 || n > 40 {
			t.Errorf("it was asked %d times in %v", n, tpm.Patience)
		}
	})
}

func TestATPMThatHangsCostsAnErrorAndOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commands atomic.Int64
		hang := make(chan struct{})
		s := tpm.New(func() (io.ReadWriteCloser, error) { return fake{commands: &commands, hang: hang}, nil }, clock.System)
		for range 5 {
			began := clock.System.Now()
			if _, _, err := s.Create(); !errors.Is(err, tpm.ErrSilent) {
				t.Errorf("err = %v", err)
			}
			if took := clock.System.Now().Sub(began); took != tpm.Patience {
				t.Errorf("it took %v", took)
			}
		}
		if n := commands.Load(); n != 1 {
			t.Errorf("%d attempts are stuck in the device", n)
		}
		close(hang)
		synctest.Wait()
		if _, _, err := s.Create(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the device is free again: err = %v", err)
		}
	})
}

func TestARefusalIsToldAsTheTPMPutsIt(t *testing.T) {
	for code, says := range map[uint32]string{
		0x101: "TPM_RC_FAILURE",
		0x921: "TPM_RC_LOCKOUT",
		0x100: "TPM_RC_INITIALIZE",
		0x9a2: "TPM_RC_BAD_AUTH",
	} {
		var commands atomic.Int64
		s := tpm.New(func() (io.ReadWriteCloser, error) { return fake{code: code, commands: &commands}, nil }, clock.System)
		if _, _, err := s.Create(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%#x: %v", code, err)
		}
	}
}
