package pki

import (
	"crypto/x509"
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

// GatewayName is a gateway's identity in its certificate.
func GatewayName(serial string) string { return strings.ToLower(serial) + "." + GatewayDomain }

// GatewaySerial is the serial number that a gateway's certificate names. The
// certificate's chain must have been verified.
func GatewaySerial(leaf *x509.Certificate) (string, error) {
	serial := leaf.Subject.CommonName
	if err := CheckSerial(serial); err != nil {
		return "", fmt.Errorf("the certificate's common name: %w", err)
	}
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != GatewayName(serial) ||
		len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 {
		return "", fmt.Errorf("the certificate of %s names %v; a gateway's names %s and nothing else", serial, leaf.DNSNames, GatewayName(serial))
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return "", fmt.Errorf("the certificate of %s is not for clients", serial)
	}
	return serial, nil
}
