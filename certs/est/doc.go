// Package est is the gateway's side of Enrollment over Secure Transport (RFC
// 7030): how a key that never leaves the gateway gets a certificate.
//
// EST is four small questions over HTTPS with client certificates, all below
// /.well-known/est:
//
//	GET  cacerts         the authorities, as certificates only
//	GET  csrattrs        what a request should contain
//	POST simpleenroll    a request (PKCS #10) against a certificate
//	POST simplereenroll  the same, asked for with the certificate to be replaced
//
// Bodies are base64 of DER. Certificates come as a PKCS #7 message that signs
// nothing ("certs-only", RFC 5272, 4.1): a bag, of which this package reads the
// certificates and nothing else. What is in the bag is not trusted here: whoever
// asks checks that the certificate is for its key and leads to its own roots.
// cacerts never adds a root to a gateway; it only shows what the server has.
//
// Any authority that speaks EST can stand behind the auth URL: nothing here is
// particular to Penstock's own.
package est
