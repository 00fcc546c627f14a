package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"penstock/certs/pki/tuf"
	"penstock/internal/disk"
)

// New roots reach gateways in a file that is signed by keys of its own, which are
// needed for nothing else and may be kept away:
//
//	1.root.json, 2.root.json …        which keys count: what gateways are given at the bench, and what follows it
//	1.targets.json, 2.targets.json …  the roots that gateways shall trust, signed
//	tuf-root.key                      signs root metadata: away
//	tuf-targets.key                   signs the roots: away, but for rotations of the root
//	tuf-online.key                    for the roles that the service itself plays (snapshot, timestamp)
//
// The names and forms are those of TUF (tuf-root-2.key and so on follow a rotation).
// The signed roots are never fewer than those of the file before but for what has
// expired or was withdrawn, and a root that is made joins them at once.

// ErrNoSigning: there is no root metadata in the folder.
var ErrNoSigning = errors.New("there are no keys for signing roots; penstock-cloud serve makes them when it next starts")

// signing is the metadata at a time. It is immutable.
type signing struct {
	chain   []*tuf.Root         // oldest first; the last one counts
	targets *tuf.Targets        // nil: nothing is signed yet
	signed  []*x509.Certificate // the roots that targets names
	stale   bool                // targets is signed by keys that count no more
}

func (s *signing) root() *tuf.Root {
	if len(s.chain) == 0 {
		return nil
	}
	return s.chain[len(s.chain)-1]
}

func rootFile(version int64) string    { return fmt.Sprintf("%d.root.json", version) }
func targetsFile(version int64) string { return fmt.Sprintf("%d.targets.json", version) }

// files are the names by which another process would show a further version.
func (s *signing) files() []string {
	next := int64(1)
	if s.targets != nil {
		next = s.targets.Version + 1
	}
	return []string{rootFile(int64(len(s.chain) + 1)), targetsFile(next)}
}

func (ca *CA) readSigning() (s signing, err error) {
	for {
		text, err := disk.ReadFile(ca.fsys, ca.path(rootFile(int64(len(s.chain)+1))))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return s, err
		}
		var r *tuf.Root
		if before := s.root(); before == nil {
			r, err = tuf.ParseRoot(text)
		} else {
			r, err = before.Next(text)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", ca.path(rootFile(int64(len(s.chain)+1))), err)
		}
		s.chain = append(s.chain, r)
	}
	version, text := int64(0), []byte(nil)
	for {
		b, err := disk.ReadFile(ca.fsys, ca.path(targetsFile(version+1)))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return s, err
		}
		version, text = version+1, b
	}
	if version == 0 || s.root() == nil {
		return s, nil
	}
	if s.targets, err = s.root().Targets(text); errors.Is(err, tuf.ErrNotSigned) {
		s.stale = true
		s.targets, err = tuf.ReadTargets(text)
	}
	if err == nil && s.targets.Version != version {
		err = fmt.Errorf("it is version %d", s.targets.Version)
	}
	var roots []byte
	if err == nil {
		roots, err = s.targets.Roots()
	}
	if err == nil {
		s.signed, err = ParseCertificates(roots)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", ca.path(targetsFile(version)), err)
	}
	return s, nil
}

// withdrawn tells whether a root was taken out of those that gateways trust: it is
// not in the signed file, which has a later one.
func (s *signing) withdrawn(roots []*Authority, n int) bool {
	has := func(r *Authority) bool { return slices.ContainsFunc(s.signed, r.Certificate.Equal) }
	return !has(roots[n]) && slices.ContainsFunc(roots[n+1:], has)
}

// wanted are the roots that the signed file should name.
func (s *set) wanted(now time.Time) (roots []*x509.Certificate) {
	for n, r := range s.roots {
		if !s.signing.withdrawn(s.roots, n) && !now.After(r.Certificate.NotAfter) {
			roots = append(roots, r.Certificate)
		}
	}
	return roots
}

// followSigning makes the metadata where there is none, and signs the roots where
// the file in force does not name all of them. Without the key that signs them they
// stay as they are. mu is held, or ca is not shared yet.
func (ca *CA) followSigning() error {
	made := false
	if ca.set.signing.root() == nil {
		if err := ca.makeSigning(); err != nil {
			return fmt.Errorf("making the keys that sign roots: %w", err)
		}
		var err error
		if ca.set, err = ca.read(); err != nil {
			return err
		}
		made = true
	}
	s := &ca.set.signing
	wanted := ca.set.wanted(ca.clock.Now())
	missing := slices.ContainsFunc(wanted, func(c *x509.Certificate) bool { return !slices.ContainsFunc(s.signed, c.Equal) })
	if len(wanted) == 0 || !missing && !s.stale {
		return nil
	}
	if err := ca.signRoots(wanted); err != nil && (made || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	return nil
}

// makeSigning makes the first keys and the first root metadata. Where there were some
// it refuses: no gateway would ever believe others.
func (ca *CA) makeSigning() error {
	for _, later := range []string{targetsFile(1), rootFile(2), generation("tuf-root", 2) + ".key", generation("tuf-targets", 2) + ".key"} {
		if _, err := ca.fsys.Stat(ca.path(later)); err == nil {
			return fmt.Errorf("%s is there and %s is not: restore it from a backup", later, rootFile(1))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	roles := map[string]tuf.Role{}
	var signer ed25519.PrivateKey
	for file, names := range map[string][]string{"tuf-root": {tuf.RoleRoot}, "tuf-targets": {tuf.RoleTargets}, "tuf-online": {tuf.RoleSnapshot, tuf.RoleTimestamp}} {
		key, err := ca.signingKey(file, true)
		if err != nil {
			return err
		}
		for _, name := range names {
			roles[name] = roleOf(key)
		}
		if file == "tuf-root" {
			signer = key
		}
	}
	return ca.signRoot(1, roles, signer)
}

func roleOf(key ed25519.PrivateKey) tuf.Role {
	return tuf.Role{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Threshold: 1}
}

func (ca *CA) signRoot(version int64, roles map[string]tuf.Role, keys ...ed25519.PrivateKey) error {
	text, err := tuf.SignRoot(version, ca.clock.Now().Add(rootLife), roles, keys...)
	if err != nil {
		return err
	}
	return disk.WriteFile(ca.fsys, ca.path(rootFile(version)), text, 0o644)
}

// signRoots writes the next version of the roots that gateways shall trust.
func (ca *CA) signRoots(roots []*x509.Certificate) error {
	s := &ca.set.signing
	key, err := ca.rootsKey()
	if err != nil {
		return err
	}
	version, expires := int64(1), time.Time{}
	if s.targets != nil {
		version = s.targets.Version + 1
	}
	for _, r := range roots {
		if r.NotAfter.After(expires) {
			expires = r.NotAfter // then nothing in it is of use
		}
	}
	text, err := tuf.SignRoots(version, expires, EncodeCertificates(roots...), key)
	if err != nil {
		return err
	}
	if err := disk.WriteFile(ca.fsys, ca.path(targetsFile(version)), text, 0o644); err != nil {
		return err
	}
	ca.set, err = ca.read()
	return err
}

// rootsKey is the key that signs roots today.
func (ca *CA) rootsKey() (ed25519.PrivateKey, error) {
	s := &ca.set.signing
	if s.root() == nil {
		return nil, ErrNoSigning
	}
	file := generation("tuf-targets", len(s.chain))
	key, err := ca.signingKey(file, false)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(s.root().Roles[tuf.RoleTargets].Keys, func(k ed25519.PublicKey) bool { return k.Equal(key.Public()) }) {
		return nil, fmt.Errorf("%s is not the key that %s names", ca.path(file+".key"), rootFile(s.root().Version))
	}
	return key, nil
}

// signingKey reads a key, and makes it where it may.
func (ca *CA) signingKey(file string, create bool) (ed25519.PrivateKey, error) {
	name := ca.path(file + ".key")
	text, err := ReadSecret(ca.fsys, name)
	if errors.Is(err, fs.ErrNotExist) && create {
		_, key, err := ed25519.GenerateKey(ca.rand)
		if err != nil {
			return nil, err
		}
		if text, err = EncodeKey(key); err != nil {
			return nil, err
		}
		return key, disk.WriteFile(ca.fsys, name, text, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: bring it for as long as it takes to sign: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM private key (PKCS #8) in it", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", name)
	}
	return ed, nil
}

// rotateSigning replaces the keys that sign roots: the next root metadata, signed by
// the old root key and by the new one, then the roots under the new key. The old keys
// are destroyed. mu is held.
func (ca *CA) rotateSigning() error {
	s := &ca.set.signing
	if s.root() == nil {
		return ErrNoSigning
	}
	n := len(s.chain)
	old, err := ca.signingKey(generation("tuf-root", n), false)
	if err != nil {
		return err
	}
	root, err := ca.signingKey(generation("tuf-root", n+1), true)
	if err != nil {
		return err
	}
	targets, err := ca.signingKey(generation("tuf-targets", n+1), true)
	if err != nil {
		return err
	}
	roles := map[string]tuf.Role{tuf.RoleRoot: roleOf(root), tuf.RoleTargets: roleOf(targets),
		tuf.RoleSnapshot: s.root().Roles[tuf.RoleSnapshot], tuf.RoleTimestamp: s.root().Roles[tuf.RoleTimestamp]}
	if err := ca.signRoot(s.root().Version+1, roles, old, root); err != nil {
		return err
	}
	if ca.set, err = ca.read(); err != nil {
		return err
	}
	if err := ca.followSigning(); err != nil {
		return err
	}
	return ca.destroy(generation("tuf-root", n), generation("tuf-targets", n))
}

// Withdraw takes an earlier root ("root", "root-2" …) out of those that gateways
// trust, and that gateways' certificates may come from: its key was stolen. Gateways
// whose factory identity comes from it must be provisioned anew.
func (ca *CA) Withdraw(name string) error {
	ca.now()
	ca.mu.Lock()
	defer ca.mu.Unlock()
	n := slices.IndexFunc(ca.numbers(), func(s string) bool { return s == name })
	if n < 0 {
		return fmt.Errorf("withdrawing %s: there are the roots %q", name, ca.numbers())
	}
	gone := ca.set.roots[n]
	if gone == ca.set.root() {
		return fmt.Errorf("withdrawing %s: it is the root of today; rotate it first", name)
	}
	if err := ca.followSigning(); err != nil {
		return fmt.Errorf("withdrawing %s: %w", name, err)
	}
	if !slices.ContainsFunc(ca.set.signing.signed, ca.set.root().Certificate.Equal) {
		return fmt.Errorf("withdrawing %s: its successor is not signed yet: %w", name, fs.ErrNotExist)
	}
	rest := slices.DeleteFunc(ca.set.wanted(ca.clock.Now()), gone.Certificate.Equal)
	if err := ca.signRoots(rest); err != nil {
		return fmt.Errorf("withdrawing %s: %w", name, err)
	}
	return nil
}

// numbers are the names of the roots, oldest first.
func (ca *CA) numbers() (names []string) {
	for i := range ca.set.roots {
		names = append(names, generation("root", i+1))
	}
	return names
}

// TUFRoot is the root metadata of today, for the identity folders of gateways:
// tuf-root.json. The error is ErrNoSigning in a folder that nobody has opened since
// there is such a thing.
func (ca *CA) TUFRoot() ([]byte, error) {
	s := ca.now()
	if s.signing.root() == nil {
		return nil, ErrNoSigning
	}
	return s.signing.root().Text, nil
}

// Trusted are the roots that gateways shall trust, and the version in which they were
// signed; 0 when they never were.
func (ca *CA) Trusted() (version int64, roots []*x509.Certificate) {
	s := &ca.now().signing
	if s.targets == nil {
		return 0, nil
	}
	return s.targets.Version, slices.Clone(s.signed)
}

// SignedRoots is what a gateway needs that knows root metadata of that version and
// the roots of that version (0: those of the bench): the root metadata that follows,
// oldest first, and the signed roots; nothing of what it has. A version that is not
// ours may be one that somebody signed with a stolen key: it is answered with ours.
// The error is ErrNoSigning when nothing is signed here.
func (ca *CA) SignedRoots(root, roots int64) (chain [][]byte, targets []byte, err error) {
	s := &ca.now().signing
	if s.targets == nil || s.stale {
		return nil, nil, ErrNoSigning
	}
	for _, r := range s.chain {
		if r.Version > root {
			chain = append(chain, bytes.TrimSpace(r.Text))
		}
	}
	if s.targets.Version != roots || len(chain) > 0 {
		targets = bytes.TrimSpace(s.targets.Text)
	}
	return chain, targets, nil
}
