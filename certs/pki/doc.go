// Package pki is Penstock's private public-key infrastructure: the authorities,
// what they issue, and the one TLS policy that both sides of every connection
// follow.
//
// # Authorities
//
// A root signs intermediates and nothing else. The factory authority issues
// gateways their long-lived identities, the operational authority the certificates
// of 90 days that they enrol for; both may issue client certificates only, and
// only under the name space gw.penstock.internal. The servers' authority may issue server certificates only, and only outside of that name space. Extended
// key usages nest: a certificate that the wrong authority issued does not verify,
// whatever it claims of itself. A leaf without an extended key usage would pass
// for either, so none is ever issued, and none is accepted.
//
// # Names and roles
//
// A gateway is <serial>.gw.penstock.internal, as the one name in its certificate
// (subjectAltName, RFC 5280, 4.2.1.6); the common name repeats the serial number
// for people. Name constraints bind the first and not the second, so the DNS name
// is the identity. The organisational unit of a factory identity is the board that
// it was made for.
//
// What a gateway's certificate is good for is a certificate policy (RFC 5280,
// 4.2.1.4) that leaf and issuer must share: factory identity or operational
// certificate. So the role stands in the certificate itself, signed, and holds
// across rotations of the authorities.
//
// What a certificate request asks for beyond its key and its serial number is
// ignored.
//
// # New roots
//
// A root cannot vouch for its successor beyond its own end, and a thief of its key
// could vouch for anybody. So gateways take roots from no certificate: they are signed
// by keys that serve nothing else, which every gateway is told at the bench. The form is
// metadata of The Update Framework (certs/pki/tuf); what a gateway makes of it is in
// certs/trust.
//
// # TLS
//
// TLS 1.3, and 1.2 with forward secrecy and authenticated encryption only. Roots
// come from a file; the system's are not used. Server names are always verified.
// Servers that gateways connect to demand a client certificate. Checks that must
// hold for a resumed session too (roles, revocation) stand in VerifyConnection,
// since Go does not call VerifyPeerCertificate when a session is resumed. Each
// listener has ticket keys of its own.
//
// A client of TLS 1.3 believes its handshake finished before the server has looked
// at its certificate: it learns of a refusal by its first read. So a refused
// client may have written already; the server's application never sees it.
//
// Explain turns the error of either side into a sentence for people.
//
// The package is linked into the firmware, so it depends on nothing but the
// standard library.
package pki
