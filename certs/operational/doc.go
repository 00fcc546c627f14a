// Package operational keeps a gateway supplied with its operational certificate:
// the one that opens the services, as against the factory identity, which opens
// enrolment and lasts as long as the hardware.
//
// # The life of a certificate
//
// A gateway that has none enrols with its factory identity (EST, RFC 7030,
// simpleenroll). From 60 % of its life on it is renewed with itself
// (simplereenroll) and a new key. What comes back is first used beside the old
// one: the session connects with it, and only when the endpoint has let it in does
// it take the old one's place. Where the endpoint refuses it, the session goes
// back to the old one. A certificate that has expired, or that is refused with
// nothing to go back to, is replaced with the factory identity, and nobody needs
// to come.
//
// # On disk
//
// All is in the identity folder, and everything is replaced by a rename:
//
//	operational.pem  key and chain that have been let in, in one file, so that
//	                 no power cut parts them
//	next.key         a key that a certificate is being asked for
//	next.pem         key and chain that nobody has let in yet
//
// A key is on disk before anybody is told of it. After a power cut the same key
// asks again: an authority that sees a second key where one certificate is still
// good must suspect that the identity was copied. For the same reason the factory
// identity asks for the key that the gateway has, if it has one, and for a new one
// only when that is refused.
//
// # Time
//
// A certificate is judged by the trusted clock, and by no clock that nobody
// vouches for: a gateway that does not know the time uses what it has, and learns
// from being refused.
//
// Nothing here stops anything else: polling, storing and the local socket do not
// know of it.
package operational
