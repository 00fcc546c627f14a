// Package pki is Penstock's private public-key infrastructure: the authorities,
// what they issue, and the one TLS policy that both sides of every connection
// follow.
//
// # Authorities
//
// A root signs two intermediates and nothing else. The gateways' intermediate
// may issue client certificates under the name space .gw.penstock.internal; the
// servers' intermediate may issue server certificates outside of it. Extended
// key usages nest: a certificate that the wrong intermediate issued does not
// verify, whatever it claims of itself. A leaf without an extended key usage
// would pass for either, so none is ever issued, and none is accepted.
//
// # Names
//
// A gateway is <serial>.gw.penstock.internal, as the one DNS name in its
// certificate (RFC 5280, 4.2.1.6); the common name repeats the serial number for
// people. Name constraints bind DNS names and not common names, so the DNS name
// is the identity. What a certificate request asks for beyond its key and its
// serial number is ignored.
//
// # TLS
//
// TLS 1.3, and 1.2 with forward secrecy and authenticated encryption only. Roots
// come from a file; the system's are not used. Server names are always verified.
// Servers that gateways connect to demand a client certificate. Checks that must
// hold for a resumed session too (roles, revocation) stand in VerifyConnection,
// since Go does not call VerifyPeerCertificate when a session is resumed.
//
// The package is linked into the firmware, so it depends on the standard library
// alone.
package pki
