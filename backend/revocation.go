package backend

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"penstock/backend/store"
	"penstock/internal/clock"
)

const (
	// revocationEvery is how often the backend looks for revocations that another
	// process has made: `penstock-cloud ca revoke` acts within a second on
	// connections that stand. New ones are held against the store itself.
	revocationEvery = 250 * time.Millisecond
	// handshakesUnderWay is how long a connection may take from its check to being
	// one that can be dropped.
	handshakesUnderWay = 30 * time.Second
)

// Revocations is where revocations are found.
type Revocations interface {
	// Revocations lists those with an id beyond after, oldest first.
	Revocations(ctx context.Context, after int64) ([]store.Revocation, error)
	// Standing answers a *store.RevokedError for a gateway that is revoked now, or whose
	// certificate of that number is.
	Standing(ctx context.Context, serial, number string) error
}

// shutOut is whom a revocation is of: a gateway, or a certificate of it.
type shutOut struct{ serial, number string }

// dropRevoked ends the connections of gateways and certificates that are revoked after
// the one of that id, until ctx ends. Whoever's handshake was under way meanwhile is
// dropped as soon as the connection stands.
func dropRevoked(ctx context.Context, db Revocations, seen int64, clk clock.Clock, drop func(serial, number string), log *slog.Logger) {
	recent := map[shutOut]time.Time{} // until when each is dropped again
	failing := false
	for ctx.Err() == nil {
		fresh, err := db.Revocations(ctx, seen)
		if err != nil && ctx.Err() == nil && !failing {
			log.Error("revocations cannot be looked up; trying again", "err", err)
		}
		failing = err != nil
		now := clk.Now()
		for _, r := range fresh {
			seen = r.ID
			log.Warn("revoked", "gateway", r.Gateway, "certificate", r.Number, "reason", r.Reason)
			recent[shutOut{r.Gateway, r.Number}] = now.Add(handshakesUnderWay)
			drop(r.Gateway, r.Number)
		}
		for who, until := range recent {
			var revoked *store.RevokedError
			switch {
			case now.After(until):
				delete(recent, who)
			case errors.As(db.Standing(ctx, who.serial, who.number), &revoked):
				drop(who.serial, who.number)
			}
		}
		_ = clk.Sleep(ctx, revocationEvery) // its error says that ctx has ended
	}
}

// lastRevocation is the id of the newest revocation.
func lastRevocation(ctx context.Context, db Revocations) (int64, error) {
	all, err := db.Revocations(ctx, 0)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[len(all)-1].ID, nil
}
