package est

import (
	"encoding/asn1"
	"fmt"
)

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256        = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidRSA         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidChallenge   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
)

// Attributes is what a server wants of a request (RFC 7030, 4.5.2): bare object
// identifiers, and attributes with values.
type Attributes []Attribute

// Attribute is one of them; Values is empty for a bare object identifier.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue
}

// ParseAttributes reads the body of a csrattrs answer.
func ParseAttributes(der []byte) (Attributes, error) {
	var all []asn1.RawValue
	rest, err := asn1.Unmarshal(der, &all)
	if err != nil {
		return nil, fmt.Errorf("these are not the attributes of a request: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes stand after the attributes", len(rest))
	}
	var out Attributes
	for i, raw := range all {
		var a Attribute
		if raw.Class == asn1.ClassUniversal && raw.Tag == asn1.TagOID {
			_, err = asn1.Unmarshal(raw.FullBytes, &a.Type)
		} else {
			var pair struct {
				Type   asn1.ObjectIdentifier
				Values []asn1.RawValue `asn1:"set"`
			}
			_, err = asn1.Unmarshal(raw.FullBytes, &pair)
			a = Attribute{pair.Type, pair.Values}
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %d: %w", i+1, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// Check tells whether a request of a gateway can be what the server wants: a key
// on P-256, and nothing that only a person would know. What else it names is a
// wish, which the server settles with the certificate that it issues.
func (attrs Attributes) Check() error {
	for _, a := range attrs {
		switch {
		case a.Type.Equal(oidRSA):
			return fmt.Errorf("the EST server wants an RSA key; a gateway's is ECDSA on P-256")
		case a.Type.Equal(oidChallenge):
			return fmt.Errorf("the EST server wants a challenge password; a gateway proves itself by its certificate alone")
		case a.Type.Equal(oidECPublicKey):
			for _, v := range a.Values {
				var curve asn1.ObjectIdentifier
				if _, err := asn1.Unmarshal(v.FullBytes, &curve); err != nil || !curve.Equal(oidP256) {
					return fmt.Errorf("the EST server wants a key on another curve than P-256")
				}
			}
		}
	}
	return nil
}
