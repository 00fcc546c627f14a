package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Lifetimes. What an authority issues lies within its own validity.
const (
	day         = 24 * time.Hour
	year        = 365 * day
	rootLife    = 30 * year
	factoryLife = 25 * year // a gateway may lie in a drawer for long
	serversLife = 10 * year

	operationalLife = 10 * year // of the authority

	GatewayLife     = 20 * year // of a factory identity
	OperationalLife = 90 * day  // of an operational certificate
	ServerLife      = 90 * day
	backdate        = time.Hour // for peers whose clock is a little behind
)

// Authority is a certificate with its key: something that can issue.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer // nil where the key is kept elsewhere
}

// NewKey makes a P-256 key, the curve that every peer and TPM has.
func NewKey(rnd io.Reader) (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rnd)
}

// newRoot makes a self-signed authority. Two authorities may follow it in a
// chain, not one: when the root is replaced, the new root is signed by the old
// one and stands between it and the intermediates.
func newRoot(name string, now time.Time, rnd io.Reader) (*Authority, error) {
	key, err := NewKey(rnd)
	if err != nil {
		return nil, err
	}
	root := &Authority{Key: key}
	root.Certificate, err = root.Sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            2,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, key.Public(), rnd)
	return root, err
}

// newFactory makes the authority of factory identities.
func (a *Authority) newFactory(now time.Time, rnd io.Reader) (*Authority, error) {
	return a.newGateways("Penstock Factory Identities", Factory, factoryLife, now, rnd)
}

// newOperational makes the authority of operational certificates.
func (a *Authority) newOperational(now time.Time, rnd io.Reader) (*Authority, error) {
	return a.newGateways("Penstock Operational Certificates", Operational, operationalLife, now, rnd)
}

// newGateways makes an authority of gateways, for one role.
func (a *Authority) newGateways(name string, role Role, life time.Duration, now time.Time, rnd io.Reader) (*Authority, error) {
	t := intermediate(name, life, x509.ExtKeyUsageClientAuth, now)
	t.Policies = []x509.OID{rolePolicies[role]}
	t.PermittedDNSDomains = []string{GatewayDomain}
	// A constraint binds the kind of name that it speaks of and no other: without
	// this a certificate could carry an address instead.
	t.ExcludedIPRanges = []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	return a.issueAuthority(t, rnd)
}

// newServers makes the authority of servers.
func (a *Authority) newServers(now time.Time, rnd io.Reader) (*Authority, error) {
	t := intermediate("Penstock Servers", serversLife, x509.ExtKeyUsageServerAuth, now)
	t.ExcludedDNSDomains = []string{GatewayDomain}
	return a.issueAuthority(t, rnd)
}

func intermediate(name string, life time.Duration, usage x509.ExtKeyUsage, now time.Time) *x509.Certificate {
	return &x509.Certificate{
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
}

func (a *Authority) issueAuthority(t *x509.Certificate, rnd io.Reader) (*Authority, error) {
	key, err := NewKey(rnd)
	if err != nil {
		return nil, err
	}
	cert, err := a.Sign(t, key.Public(), rnd)
	return &Authority{cert, key}, err
}

// Sign completes a template (random serial number, key identifiers, a validity
// within the authority's own) and signs it. It checks nothing about what the
// template says: IssueGateway and IssueServer do.
func (a *Authority) Sign(t *x509.Certificate, public crypto.PublicKey, rnd io.Reader) (*x509.Certificate, error) {
	number := make([]byte, 16)
	if _, err := io.ReadFull(rnd, number); err != nil {
		return nil, err
	}
	t.SerialNumber = new(big.Int).SetBytes(number)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki) // any function of the key will do (RFC 5280, 4.2.1.2)
	t.SubjectKeyId = id[:20]
	parent := a.Certificate
	if parent == nil { // a root
		parent = t
	} else {
		if t.NotBefore.Before(parent.NotBefore) {
			t.NotBefore = parent.NotBefore
		}
		if t.NotAfter.After(parent.NotAfter) {
			t.NotAfter = parent.NotAfter
		}
		if !t.NotBefore.Before(t.NotAfter) {
			return nil, fmt.Errorf("the authority %q expired on %s: nothing can be issued by it", parent.Subject.CommonName, parent.NotAfter.Format(time.DateOnly))
		}
	}
	if a.Key == nil {
		return nil, fmt.Errorf("the key of %q is not here", parent.Subject.CommonName)
	}
	der, err := x509.CreateCertificate(rnd, t, parent, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// IssueGateway issues a factory identity for the request and the board. Only the
// request's key and serial number (its common name) are taken; anything else that
// it asks for is ignored.
func (a *Authority) IssueGateway(request *x509.CertificateRequest, board string, now time.Time, rnd io.Reader) (*x509.Certificate, error) {
	if err := CheckBoard(board); err != nil {
		return nil, err
	}
	return a.issueGateway(request, Factory, []string{board}, GatewayLife, now, rnd)
}

// IssueOperational issues an operational certificate for the request, of which
// the key and the serial number are taken. Whose request it is was for the caller
// to find out: CheckRequest tells whose it says it is.
// life is how long it is good.
func (a *Authority) IssueOperational(request *x509.CertificateRequest, life time.Duration, now time.Time, rnd io.Reader) (*x509.Certificate, error) {
	return a.issueGateway(request, Operational, nil, life, now, rnd)
}

func (a *Authority) issueGateway(request *x509.CertificateRequest, role Role, units []string, life time.Duration, now time.Time, rnd io.Reader) (*x509.Certificate, error) {
	serial, key, err := CheckRequest(request)
	if err != nil {
		return nil, err
	}
	return a.Sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: serial, OrganizationalUnit: units},
		DNSNames:              []string{GatewayName(serial)},
		NotBefore:             now.Add(-min(backdate, life/20)), // a short life is not used up when it begins
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Policies:              []x509.OID{rolePolicies[role]},
	}, key, rnd)
}

// CheckRequest tells whom a certificate request is for: it is signed by its own
// key, which is P-256, and its common name is a serial number.
func CheckRequest(request *x509.CertificateRequest) (serial string, key *ecdsa.PublicKey, err error) {
	if err := request.CheckSignature(); err != nil {
		return "", nil, fmt.Errorf("the request is not signed by the key in it: %w", err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return "", nil, errors.New("the request's key is not ECDSA on P-256")
	}
	if err := CheckSerial(request.Subject.CommonName); err != nil {
		return "", nil, fmt.Errorf("the request's common name: %w", err)
	}
	return request.Subject.CommonName, key, nil
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
		} else if err := checkHost(h); err != nil {
			return nil, err
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.Sign(t, key, rnd)
}

// hostLabel is a label of a host name (RFC 1123, 2.1).
var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkHost tells whether a certificate may be issued for a host name: lower case,
// no wildcard, not in the gateways' name space.
func checkHost(host string) error {
	if len(host) > 253 || slices.ContainsFunc(strings.Split(host, "."), func(l string) bool { return !hostLabel.MatchString(l) }) {
		return fmt.Errorf("%q is neither a host name (lower case, no wildcard) nor an address", host)
	}
	if host == GatewayDomain || strings.HasSuffix(host, "."+GatewayDomain) {
		return fmt.Errorf("%q lies in %s, which is for gateways alone", host, GatewayDomain)
	}
	return nil
}
