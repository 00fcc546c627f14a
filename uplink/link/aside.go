package link

import (
	"context"
	"net"
)

// Dial goes over the link that Next would choose, for an exchange beside the
// session, such as asking for the time. It has no say in which link that is.
func (g *Group) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.mu.Lock()
	s := g.choose()
	g.mu.Unlock()
	return s.Dial(ctx, network, address)
}
