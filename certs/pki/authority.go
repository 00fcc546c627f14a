package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// Lifetimes. A certificate never outlives the authority that issued it.
const (
	rootLife         = 30 * year
	gatewaysLife     = 25 * year // a gateway may lie in a drawer for long
	serversLife      = 10 * year
	GatewayLife      = 20 * year // of a factory identity
	ServerLife       = 90 * day
	day              = 24 * time.Hour
	year             = 365 * day
	backdate         = time.Hour // for peers whose clock is a little behind
	serialNumberBits = 128
)

// Authority is a certificate with its key: something that can issue.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewKey makes a P-256 key, the curve that every peer and TPM has.
func NewKey(rnd io.Reader) (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rnd)
}

// newRoot makes a self-signed authority.
func newRoot(now time.Time, rnd io.Reader) (*Authority, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Penstock Root"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            1,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, err := NewKey(rnd)
	if err != nil {
		return nil, err
	}
	return sign(t, key, nil, rnd)
}

// intermediate makes an authority that issues leaves of one kind.
func (a *Authority) intermediate(name string, life time.Duration, usage x509.ExtKeyUsage, now time.Time, rnd io.Reader) (*Authority, error) {
	t := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: name},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(life),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{usage},
		PermittedDNSDomainsCritical: true,
	}
	if usage == x509.ExtKeyUsageClientAuth {
		t.PermittedDNSDomains = []string{GatewayDomain}
		// Without these a certificate could carry an address instead.
		t.ExcludedIPRanges = everyAddress()
	} else {
		t.ExcludedDNSDomains = []string{GatewayDomain}
	}
	key, err := NewKey(rnd)
	if err != nil {
		return nil, err
	}
	return sign(t, key, a, rnd)
}

func everyAddress() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}

// sign completes the template for key and signs it, by itself when by is nil.
func sign(t *x509.Certificate, key crypto.Signer, by *Authority, rnd io.Reader) (*Authority, error) {
	cert, err := certify(t, key.Public(), by, key, rnd)
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: cert, key: key}, nil
}

func certify(t *x509.Certificate, public crypto.PublicKey, by *Authority, own crypto.Signer, rnd io.Reader) (*x509.Certificate, error) {
	n := make([]byte, serialNumberBits/8)
	if _, err := io.ReadFull(rnd, n); err != nil {
		return nil, err
	}
	n[0] &= 0x7F // positive in DER, within the 20 octets of RFC 5280
	t.SerialNumber = new(big.Int).SetBytes(n)
	parent, signer := t, own
	if by != nil {
		parent, signer = by.Certificate, by.key
		if t.NotAfter.After(by.Certificate.NotAfter) {
			t.NotAfter = by.Certificate.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rnd, t, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// IssueGateway issues a factory identity for the request. Only the request's key
// and serial number (its common name) are taken; anything else that it asks for
// is ignored.
func (a *Authority) IssueGateway(request *x509.CertificateRequest, now time.Time, rnd io.Reader) (*x509.Certificate, error) {
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by the key in it: %w", err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the request's key is not ECDSA on P-256")
	}
	serial := request.Subject.CommonName
	if err := CheckSerial(serial); err != nil {
		return nil, fmt.Errorf("the request's common name: %w", err)
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: serial},
		DNSNames:              []string{GatewayName(serial)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(GatewayLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return certify(t, key, a, nil, rnd)
}

// IssueServer issues a server certificate for host names and addresses.
func (a *Authority) IssueServer(hosts []string, key crypto.PublicKey, now time.Time, rnd io.Reader) (*x509.Certificate, error) {
	if len(hosts) == 0 {
		return nil, errors.New("a server certificate needs a host name or an address")
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: hosts[0]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ServerLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return certify(t, key, a, nil, rnd)
}

// EncodeCertificates writes certificates as PEM, in the order given.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// ParseCertificates reads all certificates of a PEM text; there must be one.
func ParseCertificates(text []byte) (certs []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block %q where certificates are expected", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certs, nil
}

// EncodeKey writes a private key as PEM (PKCS #8).
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads a P-256 private key from PEM.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM private key (PKCS #8) in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA on P-256")
	}
	return ec, nil
}

// ParseRequest reads a PEM certificate request.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("no PEM certificate request in it")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
