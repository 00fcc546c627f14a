package pki

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Models are the kinds of gateway.
var Models = []string{"cim280", "cim550"}

// CheckModel tells whether there is such a kind of gateway.
func CheckModel(s string) error {
	if !slices.Contains(Models, s) {
		return fmt.Errorf("model: %q is not allowed; allowed: %s", s, strings.Join(Models, ", "))
	}
	return nil
}

// Record is what the bench tells the authority of a gateway: a certificate request
// that says, beside the serial number, what else belongs to the gateway. All of it is
// signed by the gateway's key, so that none of it can be exchanged on the way.
//
// It is a PEM certificate request like any other: the common name is the serial
// number, the organisational unit the board, and the rest stands in a name of the
// kind URI, "penstock:gateway?claim=HEX&model=cim550", which openssl shows. It is
// said to the authority and comes into no certificate.
type Record struct {
	Serial string
	Board  string // "" in a request that is not from the bench, as Model and Claim
	Model  string
	Claim  []byte // SHA-256 of the claim code on the label
	// Relabel: the gateway has got a new label, and the code of the old one is void.
	Relabel bool

	PEM []byte // as it came, from ParseRecord
}

// recordScheme and recordOpaque are what the URI begins with.
const recordScheme, recordOpaque = "penstock", "gateway"

// EncodeRecord writes a record as a PEM certificate request. Where the key signs as
// RFC 6979 says (a key in a file does), the same record is the same to the last bit.
func EncodeRecord(r Record, key crypto.Signer) ([]byte, error) {
	t := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: r.Serial},
		DNSNames: []string{GatewayName(r.Serial)},
	}
	if r.Board != "" {
		t.Subject.OrganizationalUnit = []string{r.Board}
	}
	if r.Model != "" {
		said := url.Values{"model": {r.Model}}
		if r.Claim != nil {
			said.Set("claim", hex.EncodeToString(r.Claim))
		}
		if r.Relabel {
			said.Set("relabel", "yes")
		}
		t.URIs = []*url.URL{{Scheme: recordScheme, Opaque: recordOpaque, RawQuery: said.Encode()}}
	}
	der, err := x509.CreateCertificateRequest(nil, t, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseRecord reads a record and checks that it is signed by the key in it and that
// what it says is possible.
func ParseRecord(text []byte) (r Record, err error) {
	request, err := ParseRequest(text)
	if err != nil {
		return r, err
	}
	if r.Serial, _, err = CheckRequest(request); err != nil {
		return r, err
	}
	r.PEM = text
	if units := request.Subject.OrganizationalUnit; len(units) > 1 {
		return r, fmt.Errorf("the request of %s names several boards: %q", r.Serial, units)
	} else if len(units) == 1 {
		r.Board = units[0]
		if err := CheckBoard(r.Board); err != nil {
			return r, fmt.Errorf("the request of %s: %w", r.Serial, err)
		}
	}
	for _, u := range request.URIs {
		if u.Scheme != recordScheme || u.Opaque != recordOpaque {
			continue
		}
		if err := r.read(u.RawQuery); err != nil {
			return r, fmt.Errorf("the request of %s: %w", r.Serial, err)
		}
	}
	return r, nil
}

// read takes over what the URI says.
func (r *Record) read(query string) error {
	said, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	if r.Model != "" {
		return errors.New("it says twice what the gateway is")
	}
	for key, values := range said {
		if len(values) != 1 {
			return fmt.Errorf("it says %s %d times", key, len(values))
		}
		switch v := values[0]; key {
		case "model":
			if err := CheckModel(v); err != nil {
				return err
			}
			r.Model = v
		case "claim":
			if r.Claim, err = hex.DecodeString(v); err != nil || len(r.Claim) != sha256.Size {
				return errors.New("the hash of its claim code is not one")
			}
		case "relabel":
			if v != "yes" {
				return fmt.Errorf("relabel=%s", v)
			}
			r.Relabel = true
		default:
			return fmt.Errorf("it says %s, which this version does not know", key)
		}
	}
	if r.Model == "" || r.Board == "" {
		return errors.New("it does not say model and board")
	}
	return nil
}

// Bundle is what an authority answers to a record: everything that a gateway takes
// over.
type Bundle struct {
	Chain   []byte // PEM, leaf first
	Roots   []byte // PEM
	TUFRoot []byte // tuf-root.json, nil if there is none
}

// bundleFile is a bundle as it travels: one JSON object.
type bundleFile struct {
	Certificate string `json:"certificate"`
	Roots       string `json:"roots"`
	TUFRoot     string `json:"tuf_root,omitempty"` // as a string: its bytes are signed
}

// MaxBundle is how large a bundle may be, in bytes.
const MaxBundle = 1 << 20

// Encode writes a bundle.
func (b Bundle) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(bundleFile{string(b.Chain), string(b.Roots), string(b.TUFRoot)}, "", "  ")
	return append(text, '\n'), err
}

// ParseBundle reads a bundle. Whose it is, and whether it holds together, is for the
// gateway to judge when it takes it over.
func ParseBundle(text []byte) (b Bundle, err error) {
	var f bundleFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&f); {
	case errors.Is(err, io.EOF):
		return b, errors.New("the answer of the authority is empty")
	case err != nil:
		return b, fmt.Errorf("the answer of the authority cannot be read: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return b, errors.New("the answer of the authority goes on after its end")
	}
	if f.Certificate == "" || f.Roots == "" {
		return b, errors.New("the answer of the authority lacks the certificate or the roots")
	}
	b.Chain, b.Roots = []byte(f.Certificate), []byte(f.Roots)
	if f.TUFRoot != "" {
		b.TUFRoot = []byte(f.TUFRoot)
	}
	return b, nil
}
