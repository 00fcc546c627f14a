// Package trust holds the roots that a gateway trusts, and changes them while it
// runs.
//
// A root is trusted because it was put there: nobody above it says so. At the bench a
// gateway gets roots.pem, and tuf-root.json, which pins keys that are kept offline. New
// roots are believed when those keys have signed them, and for no other reason: no
// server, and no certificate of any authority, can add one. A gateway without
// tuf-root.json keeps the roots of the bench for ever.
//
// # When it asks
//
// At its start, once a day, and when a server's certificate could not be verified. The
// question goes to the auth service over the same TLS as everything. Where that fails
// because no chain leads to a root in date, it is asked once more with dates left out:
// the answer is signed in itself, so the connection has to keep nothing secret, and
// nothing else is sent over it. That is how a gateway comes back that lay in a drawer
// until its root had expired, or that has no clock.
//
// # What it believes
//
// Root metadata that follows the one it has, signed by the keys of both, whatever the
// dates say: expired keys may still name their successors, so that an expiry never
// locks a gateway out. Signed roots of a higher version than it has had, under root
// metadata that has not expired. Expiry is judged by the floor of the trusted clock,
// which nobody can forge and which is never later than the truth: while the time is
// not known, nothing has expired. The version binds as long as the keys that signed it
// count: whoever steals a key and signs a version that nobody can top has lost with it.
// Nothing that is in force ends by an expiry of metadata.
//
// # Make before break
//
// What was signed is written beside what is in force (roots.next.json), and then tried:
// a connection to the auth service on which nothing but the new roots is trusted must
// get an answer. Only then it takes the place of what was in force (roots.json), in one
// rename. Until then, and if it never works, everything stays as it was. roots.pem of
// the bench is never touched.
package trust
