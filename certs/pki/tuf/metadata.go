package tuf

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The roles of root metadata.
const (
	RoleRoot      = "root"
	RoleTargets   = "targets"
	RoleSnapshot  = "snapshot"
	RoleTimestamp = "timestamp"
)

var roleNames = []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp}

const specVersion = "1.0.31"

// ErrNotSigned: too few of the keys that count have signed.
var ErrNotSigned = errors.New("it is not signed by the keys that count")

// Role says who may speak in a role: so many of these keys together.
type Role struct {
	Keys      []ed25519.PublicKey
	Threshold int
}

// Root is root metadata that has been verified. It is immutable.
type Root struct {
	Version int64
	Expires time.Time
	Roles   map[string]Role
	Text    []byte // the file
}

// Target is one file that targets metadata names.
type Target struct {
	Length int64
	SHA256 []byte
	Custom json.RawMessage // nil: there is none
}

// Targets is targets metadata that has been verified. It is immutable.
type Targets struct {
	Version int64
	Expires time.Time
	Files   map[string]Target
	Text    []byte // the file
}

// The form of the files.
type (
	envelope struct {
		Signatures []signature `json:"signatures"`
		Signed     any         `json:"signed"`
	}
	signature struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}
	head struct {
		Type        string `json:"_type"`
		SpecVersion string `json:"spec_version"`
		Version     int64  `json:"version"`
		Expires     string `json:"expires"`
	}
	rootBody struct {
		head
		ConsistentSnapshot bool                `json:"consistent_snapshot"`
		Keys               map[string]keyBody  `json:"keys"`
		Roles              map[string]roleBody `json:"roles"`
	}
	keyBody struct {
		KeyType string `json:"keytype"`
		Scheme  string `json:"scheme"`
		KeyVal  struct {
			Public string `json:"public"`
		} `json:"keyval"`
	}
	roleBody struct {
		KeyIDs    []string `json:"keyids"`
		Threshold int      `json:"threshold"`
	}
	targetsBody struct {
		head
		Targets map[string]targetBody `json:"targets"`
	}
	targetBody struct {
		Length int64             `json:"length"`
		Hashes map[string]string `json:"hashes"`
		Custom json.RawMessage   `json:"custom,omitempty"`
	}
)

// signed is a file whose form is right, before anything has been verified.
type signed struct {
	canonical  []byte
	signatures []signature
	body       []byte // JSON of what is signed
}

func parse(text []byte) (*signed, error) {
	whole, err := tree(text)
	if err != nil {
		return nil, err
	}
	object, ok := whole.(map[string]any)
	if !ok {
		return nil, errors.New("it is not an object")
	}
	body, ok := object["signed"].(map[string]any)
	if !ok {
		return nil, errors.New(`there is no object "signed"`)
	}
	s := &signed{}
	// What is read is what was signed, whatever else the file may hold.
	if s.canonical, err = canonical(nil, body); err != nil {
		return nil, err
	}
	if s.body, err = json.Marshal(body); err != nil {
		return nil, err
	}
	list, err := json.Marshal(object["signatures"])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(list, &s.signatures); err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	return s, nil
}

// read reads the body as metadata of that type.
func (s *signed) read(kind string, into any, h *head) (expires time.Time, err error) {
	if err := json.Unmarshal(s.body, into); err != nil {
		return expires, err
	}
	if h.Type != kind {
		return expires, fmt.Errorf("it is metadata of type %q, not %q", h.Type, kind)
	}
	if h.SpecVersion != "1.0" && !strings.HasPrefix(h.SpecVersion, "1.0.") {
		return expires, fmt.Errorf("it follows specification %q; this is 1.0", h.SpecVersion)
	}
	if h.Version < 1 {
		return expires, fmt.Errorf("version %d; the first is 1", h.Version)
	}
	if expires, err = time.Parse(time.RFC3339, h.Expires); err != nil {
		return expires, fmt.Errorf("expires: %w", err)
	}
	return expires, nil
}

// by is nil when enough different keys of the role have signed.
func (s *signed) by(name string, r Role) error {
	valid := 0
	for _, key := range r.Keys {
		if slices.ContainsFunc(s.signatures, func(sig signature) bool {
			raw, err := hex.DecodeString(sig.Sig)
			return err == nil && ed25519.Verify(key, s.canonical, raw)
		}) {
			valid++
		}
	}
	if r.Threshold < 1 || valid < r.Threshold {
		return fmt.Errorf("%d of %d signatures of the role %q: %w", valid, r.Threshold, name, ErrNotSigned)
	}
	return nil
}

// ParseRoot reads root metadata and verifies that it is signed by its own keys. It
// tells nothing about whose keys those are: whoever calls it decides to trust the
// file.
func ParseRoot(text []byte) (*Root, error) {
	r, _, err := parseRoot(text)
	if err != nil {
		return nil, fmt.Errorf("root metadata: %w", err)
	}
	return r, nil
}

func parseRoot(text []byte) (*Root, *signed, error) {
	s, err := parse(text)
	if err != nil {
		return nil, nil, err
	}
	var body rootBody
	expires, err := s.read(RoleRoot, &body, &body.head)
	if err != nil {
		return nil, nil, err
	}
	r := &Root{Version: body.Version, Expires: expires, Roles: map[string]Role{}, Text: text}
	for _, name := range roleNames {
		if r.Roles[name], err = body.role(name); err != nil {
			return nil, nil, err
		}
	}
	if err := s.by(RoleRoot, r.Roles[RoleRoot]); err != nil {
		return nil, nil, err
	}
	return r, s, nil
}

// role collects the keys of a role, each once. Keys of other kinds than ours are
// passed over: a later version may sign with both.
func (b *rootBody) role(name string) (r Role, err error) {
	role, ok := b.Roles[name]
	if !ok {
		return r, fmt.Errorf("there is no role %q", name)
	}
	r.Threshold = role.Threshold
	for _, id := range role.KeyIDs {
		key, ok := b.Keys[id]
		if !ok {
			return r, fmt.Errorf("the role %q has a key %s that is not there", name, id)
		}
		if key.KeyType != "ed25519" || key.Scheme != "ed25519" {
			continue
		}
		public, err := hex.DecodeString(key.KeyVal.Public)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return r, fmt.Errorf("the key %s is not one of Ed25519", id)
		}
		if !slices.ContainsFunc(r.Keys, func(k ed25519.PublicKey) bool { return k.Equal(ed25519.PublicKey(public)) }) {
			r.Keys = append(r.Keys, public)
		}
	}
	if r.Threshold < 1 || r.Threshold > len(r.Keys) {
		return r, fmt.Errorf("the role %q takes %d of %d keys", name, r.Threshold, len(r.Keys))
	}
	return r, nil
}

// Next verifies the root metadata that follows r: the version after it, signed by
// the keys of both.
func (r *Root) Next(text []byte) (*Root, error) {
	next, s, err := parseRoot(text)
	if err == nil && next.Version != r.Version+1 {
		err = fmt.Errorf("version %d does not follow version %d", next.Version, r.Version)
	}
	if err == nil {
		err = s.by(RoleRoot, r.Roles[RoleRoot])
	}
	if err != nil {
		return nil, fmt.Errorf("root metadata: %w", err)
	}
	return next, nil
}

// Targets verifies targets metadata. Whether its version is newer than another's is
// for the caller to compare.
func (r *Root) Targets(text []byte) (*Targets, error) {
	t, s, err := parseTargets(text)
	if err == nil {
		err = s.by(RoleTargets, r.Roles[RoleTargets])
	}
	if err != nil {
		return nil, fmt.Errorf("targets metadata: %w", err)
	}
	return t, nil
}

// ReadTargets reads targets metadata that was verified before it was kept, by keys
// that may have been replaced since.
func ReadTargets(text []byte) (*Targets, error) {
	t, _, err := parseTargets(text)
	if err != nil {
		return nil, fmt.Errorf("targets metadata: %w", err)
	}
	return t, nil
}

func parseTargets(text []byte) (*Targets, *signed, error) {
	s, err := parse(text)
	if err != nil {
		return nil, nil, err
	}
	var body targetsBody
	expires, err := s.read(RoleTargets, &body, &body.head)
	if err != nil {
		return nil, nil, err
	}
	t := &Targets{Version: body.Version, Expires: expires, Files: map[string]Target{}, Text: text}
	for name, f := range body.Targets {
		sum, err := hex.DecodeString(f.Hashes["sha256"])
		if err != nil || len(sum) != sha256.Size || f.Length < 0 {
			return nil, nil, fmt.Errorf("the target %q has no SHA-256 or no length", name)
		}
		t.Files[name] = Target{f.Length, sum, f.Custom}
	}
	return t, s, nil
}

// RootsTarget is the target that holds the authorities of servers.
const RootsTarget = "roots.pem"

type rootsCustom struct {
	PEM string `json:"pem"`
}

// Roots is the content of roots.pem.
func (t *Targets) Roots() ([]byte, error) {
	f, ok := t.Files[RootsTarget]
	if !ok {
		return nil, fmt.Errorf("there is no target %s", RootsTarget)
	}
	var custom rootsCustom
	if err := json.Unmarshal(f.Custom, &custom); err != nil {
		return nil, fmt.Errorf("the target %s does not carry its content: %w", RootsTarget, err)
	}
	if sum := sha256.Sum256([]byte(custom.PEM)); int64(len(custom.PEM)) != f.Length || !slices.Equal(sum[:], f.SHA256) {
		return nil, fmt.Errorf("the target %s carries another content than its digest is of", RootsTarget)
	}
	return []byte(custom.PEM), nil
}

// KeyID names a key: the SHA-256 of its canonical form.
func KeyID(key ed25519.PublicKey) string {
	id, _ := keyOf(key)
	return id
}

func keyOf(key ed25519.PublicKey) (id string, k keyBody) {
	k.KeyType, k.Scheme = "ed25519", "ed25519"
	k.KeyVal.Public = hex.EncodeToString(key)
	form, err := canonicalOf(k)
	if err != nil {
		panic(err) // three strings
	}
	sum := sha256.Sum256(form)
	return hex.EncodeToString(sum[:]), k
}

func canonicalOf(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	t, err := tree(text)
	if err != nil {
		return nil, err
	}
	return canonical(nil, t)
}

func headOf(kind string, version int64, expires time.Time) head {
	return head{kind, specVersion, version, expires.UTC().Format("2006-01-02T15:04:05Z")}
}

// SignRoot writes root metadata. Keys of the version before must sign as well.
func SignRoot(version int64, expires time.Time, roles map[string]Role, keys ...ed25519.PrivateKey) ([]byte, error) {
	body := rootBody{head: headOf(RoleRoot, version, expires), ConsistentSnapshot: true, Keys: map[string]keyBody{}, Roles: map[string]roleBody{}}
	for name, role := range roles {
		r := roleBody{Threshold: role.Threshold}
		for _, key := range role.Keys {
			id, k := keyOf(key)
			body.Keys[id] = k
			r.KeyIDs = append(r.KeyIDs, id)
		}
		body.Roles[name] = r
	}
	return sign(body, keys)
}

// SignRoots writes targets metadata with the target roots.pem.
func SignRoots(version int64, expires time.Time, roots []byte, keys ...ed25519.PrivateKey) ([]byte, error) {
	custom, err := json.Marshal(rootsCustom{string(roots)})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(roots)
	return sign(targetsBody{headOf(RoleTargets, version, expires), map[string]targetBody{
		RootsTarget: {int64(len(roots)), map[string]string{"sha256": hex.EncodeToString(sum[:])}, custom}}}, keys)
}

func sign(body any, keys []ed25519.PrivateKey) ([]byte, error) {
	form, err := canonicalOf(body)
	if err != nil {
		return nil, err
	}
	sigs := map[string]string{}
	for _, key := range keys {
		sigs[KeyID(key.Public().(ed25519.PublicKey))] = hex.EncodeToString(ed25519.Sign(key, form))
	}
	e := envelope{Signatures: []signature{}, Signed: body}
	for _, id := range slices.Sorted(maps.Keys(sigs)) {
		e.Signatures = append(e.Signatures, signature{id, sigs[id]})
	}
	text, err := json.MarshalIndent(e, "", "  ")
	return append(text, '\n'), err
}
