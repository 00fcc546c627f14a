package est

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// maxCertificates bounds what one answer may hold; a chain has three or four.
const maxCertificates = 16

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// contentInfo and signedData are those of RFC 5652, 3 and 5.1, as far as a
// certs-only message has them.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version      int
	Digests      asn1.RawValue `asn1:"set"`
	Inner        asn1.RawValue
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	Revocations  asn1.RawValue `asn1:"optional,tag:1"`
	Signers      asn1.RawValue `asn1:"set"`
}

// ParseCertsOnly reads the certificates of a certs-only PKCS #7 message, in the
// order in which they stand. There is at least one.
func ParseCertsOnly(der []byte) ([]*x509.Certificate, error) {
	var outer contentInfo
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil {
		return nil, fmt.Errorf("this is not a PKCS #7 message: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes stand after the PKCS #7 message", len(rest))
	}
	if !outer.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("a PKCS #7 message of type %v; certificates come as signed data (%v)", outer.Type, oidSignedData)
	}
	var sd signedData
	if rest, err := asn1.Unmarshal(outer.Content.Bytes, &sd); err != nil {
		return nil, fmt.Errorf("the signed data of the PKCS #7 message: %w", err)
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes stand after the signed data", len(rest))
	}
	if len(sd.Signers.Bytes) > 0 {
		return nil, errors.New("the PKCS #7 message has signers; one that only carries certificates has none")
	}
	var inner struct {
		Type asn1.ObjectIdentifier
	}
	if _, err := asn1.Unmarshal(sd.Inner.FullBytes, &inner); err != nil {
		return nil, fmt.Errorf("the content of the PKCS #7 message: %w", err)
	}
	if !inner.Type.Equal(oidData) {
		return nil, fmt.Errorf("the PKCS #7 message carries %v besides certificates", inner.Type)
	}
	var certs []*x509.Certificate
	for rest := sd.Certificates.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		if len(certs) == maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
		c, err := x509.ParseCertificate(one.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("the PKCS #7 message holds no certificate")
	}
	return certs, nil
}
