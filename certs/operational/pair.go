package operational

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math"

	"penstock/certs/keys"
	"penstock/certs/pki"
)

// pair is a key and the chain that was issued for it.
type pair struct {
	key   crypto.Signer
	text  []byte              // that opens the key again, PEM
	chain []*x509.Certificate // leaf first, the root left out
	cert  tls.Certificate
	// Sessions are resumed within a pair only: a ticket stands for the certificate
	// that it was given for.
	sessions tls.ClientSessionCache

	refused int  // in a row; guarded by Identity.mu
	proven  bool // a service has let it in; guarded by Identity.mu
}

func newPair(key crypto.Signer, text []byte, chain []*x509.Certificate) *pair {
	p := &pair{key: key, text: text, chain: chain, sessions: tls.NewLRUClientSessionCache(4)}
	p.cert = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		p.cert.Certificate = append(p.cert.Certificate, c.Raw)
	}
	return p
}

// encode is a pair as one file.
func (p *pair) encode() []byte {
	return append(bytes.Clone(p.text), pki.EncodeCertificates(p.chain...)...)
}

// decodePair reads a pair of the gateway of that serial number. Where its chain
// leads to was judged when it came, and roots change: what it is worth today the
// services say.
func decodePair(text []byte, ks keys.Store, serial string) (*pair, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM key in it")
	}
	key, err := ks.Open(text)
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseCertificates(rest)
	if err != nil {
		return nil, err
	}
	if err := belongs(chain[0], key.Public(), serial); err != nil {
		return nil, err
	}
	return newPair(key, bytes.Clone(text[:len(text)-len(rest)]), chain), nil
}

// belongs tells whether a certificate is that gateway's, for that key, and an
// operational one.
func belongs(leaf *x509.Certificate, public crypto.PublicKey, serial string) error {
	if own, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(public) {
		return fmt.Errorf("the certificate of %q is for another key", leaf.Subject.CommonName)
	}
	g, err := pki.ReadGateway(leaf)
	if err != nil {
		return err
	}
	if g.Serial != serial {
		return fmt.Errorf("the certificate is for %s, and this gateway is %s", g.Serial, serial)
	}
	return g.Must(pki.Operational)
}

// life is how long every certificate of the chain is good.
func (p *pair) life() life {
	l := life{from: p.chain[0].NotBefore, to: p.chain[0].NotAfter}
	for _, c := range p.chain[1:] {
		if c.NotAfter.Before(l.to) {
			l.to = c.NotAfter
		}
	}
	sum := sha256.Sum256(p.chain[0].Raw)
	l.spread = float64(binary.BigEndian.Uint64(sum[:])) / math.MaxUint64
	return l
}
