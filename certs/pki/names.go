package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// GatewayDomain is the name space of gateways.
const GatewayDomain = "gw.penstock.internal"

var serialForm = regexp.MustCompile(`^[A-Z0-9-]{4,32}$`)

// CheckSerial tells whether s has the form of a serial number: 4 to 32 of A-Z,
// 0-9 and -. The form leaves no room for a topic wildcard or a path.
func CheckSerial(s string) error {
	if !serialForm.MatchString(s) {
		return fmt.Errorf("%q is not a serial number; allowed: 4 to 32 of A-Z, 0-9 and -", s)
	}
	return nil
}

var boardForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// CheckBoard tells whether s has the form of a board's name.
func CheckBoard(s string) error {
	if !boardForm.MatchString(s) {
		return fmt.Errorf("%q is not the name of a board; allowed: 1 to 32 of a-z, 0-9 and -", s)
	}
	return nil
}

// GatewayName is a gateway's identity in its certificate.
func GatewayName(serial string) string { return strings.ToLower(serial) + "." + GatewayDomain }

// Role is what a gateway's certificate is good for.
type Role string

const (
	Factory     Role = "factory"     // made at flashing, long-lived: opens enrolment
	Operational Role = "operational" // enrolled and renewed: opens the services
)

// Penstock's arc of certificate policies: a UUID under 2.25 (ITU-T X.667), which
// needs no registration.
const policyArc = "2.25.335052659112896242035622938315811322122"

var rolePolicies = map[Role]x509.OID{
	Factory:     mustOID(policyArc + ".1"),
	Operational: mustOID(policyArc + ".2"),
}

func mustOID(s string) x509.OID {
	oid, err := x509.ParseOID(s)
	if err != nil {
		panic(err)
	}
	return oid
}

func hasRole(c *x509.Certificate, r Role) bool {
	return slices.ContainsFunc(c.Policies, rolePolicies[r].Equal)
}

// Gateway is whom a gateway's certificate names.
type Gateway struct {
	Serial string
	Role   Role
	Board  string // that the identity was made for
}

// ReadGateway tells whom a leaf certificate names. Whether that is true is for
// Verify to say.
func ReadGateway(leaf *x509.Certificate) (g Gateway, err error) {
	g.Serial = leaf.Subject.CommonName
	if err := CheckSerial(g.Serial); err != nil {
		return g, fmt.Errorf("the certificate's common name: %w", err)
	}
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != GatewayName(g.Serial) ||
		len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 {
		return g, fmt.Errorf("the certificate of %s names %q; a gateway's names %s and nothing else", g.Serial, Names(leaf), GatewayName(g.Serial))
	}
	if !says(leaf, x509.ExtKeyUsageClientAuth) {
		return g, fmt.Errorf("the certificate of %s does not say that it is for a client", g.Serial)
	}
	for r := range rolePolicies {
		if hasRole(leaf, r) {
			if g.Role != "" {
				return g, fmt.Errorf("the certificate of %s has two roles", g.Serial)
			}
			g.Role = r
		}
	}
	if g.Role == "" {
		return g, fmt.Errorf("the certificate of %s has no role: it names none of Penstock's certificate policies", g.Serial)
	}
	if units := leaf.Subject.OrganizationalUnit; len(units) > 1 {
		return g, fmt.Errorf("the certificate of %s names several boards: %q", g.Serial, units)
	} else if len(units) == 1 {
		g.Board = units[0]
		if err := CheckBoard(g.Board); err != nil {
			return g, fmt.Errorf("the certificate of %s: %w", g.Serial, err)
		}
	}
	return g, nil
}

// Names lists what a certificate is for, as text.
func Names(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	names = append(names, c.EmailAddresses...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return names
}

// Number is a certificate's serial number in hexadecimal, as the registry and
// openssl print it.
func Number(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }

// says tells whether a certificate states a usage: one that states none would
// pass for any.
func says(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return slices.Contains(c.ExtKeyUsage, usage)
}

var errNoCertificate = errors.New("the peer has shown no certificate")
