// Package link chooses the way out: ethernet, a modem, or whatever the machine
// routes.
//
// The gateway chooses, not the operating system. Network managers probe some
// well-known host by their own rules, over whichever route stands, and resolve its
// name by whichever server answers; fleets have been stranded by that. Here a
// socket is bound to its device (SO_BINDTODEVICE), its name is looked up at that
// device's own name servers over that device, and a link is healthy only if our
// own services answered us over it: a TLS handshake, a PUBACK. Carrier is a
// necessary condition and no more.
//
// # The rules
//
// Links stand in order of preference. A link is down after three failures in a
// row, or when it has no carrier. It is back only after several successes in a row
// that span a while; a link that comes back and does not stay has to hold longer
// each time, so that a loose plug does not drag the session to and fro. While a
// less preferred link carries, each better one that is down is probed with one
// bounded TLS handshake, rarer and rarer.
//
// Down is an opinion, not a fate. When every link is down they are tried in turn,
// for ever, the one that answered last before the others.
//
// # Bytes
//
// Bytes are counted per link by the kernel, whose counters know what headers and
// retransmissions cost, and begin anew when the device does. A link may have a
// budget for a month; what was used is kept on disk. Past it only alarms, command
// results and what keeps the session alive go over the link.
//
// # Routes
//
// SO_BINDTODEVICE chooses the device, and the kernel still wants a route there: a
// link that is not point-to-point needs a default route on its device, of a higher
// metric where it is not the first. And with rp_filter=1 the kernel drops the
// answers that come in on a device other than that of the best route. Problems
// says so, since nothing else does.
package link
