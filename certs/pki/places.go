package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// errCrowd is what a peer is refused for whose address holds its share already.
var errCrowd = errors.New("too many connections from this address at a time")

// widerShare is how many times the share of an IPv6 network of 64 bits the network
// of 48 bits around it has: providers hand those out whole.
const widerShare = 4

// places counts the open connections of each address and of each certificate. A
// connection counts against its address until a certificate says whose it is:
// thousands of gateways may reach us through one address of a mobile network.
type places struct {
	limits Limits

	mu    sync.Mutex
	from  map[netip.Prefix]*crowd         // guarded by mu
	known map[[sha256.Size]byte][]*placed // guarded by mu; by certificate, the oldest first
}

// crowd is what one network holds.
type crowd struct {
	conns int
	told  bool // that it is full; until it holds half of its share again
}

func newPlaces(l Limits) *places {
	return &places{limits: l, from: map[netip.Prefix]*crowd{}, known: map[[sha256.Size]byte][]*placed{}}
}

// networks are the networks that a connection counts against, and how many times
// the share of an address each of them has.
func networks(addr net.Addr) map[netip.Prefix]int {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return map[netip.Prefix]int{{}: 1} // counted together
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is4() {
		return map[netip.Prefix]int{netip.PrefixFrom(a, 32): 1}
	}
	return map[netip.Prefix]int{
		netip.PrefixFrom(a, 64).Masked(): 1,
		netip.PrefixFrom(a, 48).Masked(): widerShare,
	}
}

// enter counts a new connection. Where its address holds its share already the
// connection is not counted; tell is true when that is news.
func (p *places) enter(addr net.Addr) (ok, tell bool) {
	if p.limits.PerAddress == 0 {
		return true, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, share := range networks(addr) {
		if c := p.from[n]; c != nil && c.conns >= share*p.limits.PerAddress {
			tell = !c.told
			c.told = true
			return false, tell
		}
	}
	for n := range networks(addr) {
		c := p.from[n]
		if c == nil {
			c = &crowd{}
			p.from[n] = c
		}
		c.conns++
	}
	return true, false
}

// exit gives back what enter counted. The caller holds mu.
func (p *places) exit(addr net.Addr) {
	if p.limits.PerAddress == 0 {
		return
	}
	for n, share := range networks(addr) {
		c := p.from[n]
		c.conns--
		if c.conns <= share*p.limits.PerAddress/2 {
			c.told = false
		}
		if c.conns == 0 {
			delete(p.from, n)
		}
	}
}

// identify counts a connection against its peer's certificate from now on, if it
// showed one, instead of its address. Where the certificate holds its share
// already its oldest connection is closed: a gateway that lost power or its
// network leaves connections behind that nobody will ever use again.
func (p *places) identify(conn *placed, state tls.ConnectionState) {
	if len(state.PeerCertificates) == 0 {
		return
	}
	if oldest := p.name(conn, sha256.Sum256(state.PeerCertificates[0].Raw)); oldest != nil {
		oldest.Close()
	}
}

// name does what identify says, and returns the connection to close.
func (p *places) name(conn *placed, certificate [sha256.Size]byte) (oldest *placed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn.left {
		return nil
	}
	p.exit(conn.RemoteAddr())
	conn.named, conn.certificate = true, certificate
	mine := append(p.known[certificate], conn)
	if most := p.limits.PerCertificate; most > 0 && len(mine) > most {
		oldest = mine[0]
	}
	p.known[certificate] = mine
	return oldest
}

// leave forgets a connection that is closed.
func (p *places) leave(conn *placed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn.left = true
	if !conn.named {
		p.exit(conn.RemoteAddr())
		return
	}
	mine := slices.DeleteFunc(p.known[conn.certificate], func(c *placed) bool { return c == conn })
	if len(mine) == 0 {
		delete(p.known, conn.certificate)
		return
	}
	p.known[conn.certificate] = mine
}

// Write ends the connection where its peer takes nothing for the time of Stall. A
// deadline would not do: the server above sets its own.
func (p *placed) Write(b []byte) (int, error) {
	if stall := p.places.limits.Stall; stall > 0 {
		defer time.AfterFunc(stall, func() { p.Close() }).Stop()
	}
	return p.Conn.Write(b)
}
