// Package tuf reads, verifies and writes the two kinds of metadata of The Update
// Framework (specification 1.0) that trust in new roots hangs on: root metadata,
// which names keys, and targets metadata, which names files.
//
// The root metadata that a gateway is given at the bench pins keys that are kept
// offline. It has a version and may only be followed by the version after it,
// signed by a threshold of the keys of both. Targets metadata is signed by a
// threshold of the keys that root metadata names for the role "targets", and has a
// version of its own, which never goes back.
//
// The authorities that servers must come from are a target, roots.pem. It is so
// small that the metadata carries it along, as "pem" in the target's custom part:
// what verifies is whole.
//
// A signature is Ed25519 over the canonical form of what stands under "signed": keys
// sorted, no space, numbers whole, and in strings nothing escaped but the quotation
// mark and the backslash. The form of the file itself does not matter.
//
// Nothing here looks at a clock. When metadata expires is told, and what follows
// from it is for the caller, who knows what he knows about the time.
//
// The package is linked into the firmware, in the place of go-tuf, which would add
// more than a quarter to it; a test has go-tuf read what this package writes, and
// the reverse.
package tuf
