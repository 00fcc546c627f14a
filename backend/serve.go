// Package backend is what penstock-cloud is made of: one process, one SQLite
// file, no other service.
//
// It plays three roles, each with a listener of its own. The auth service (HTTPS,
// mutual TLS) tells a gateway which endpoint to use. The endpoint (MQTT, mutual
// TLS) keeps what gateways send before it acknowledges. The web client (HTTPS)
// shows it to people. They meet only in the store, so that they can run apart
// later.
package backend

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"penstock/backend/access"
	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// Config is what an operator decides.
type Config struct {
	State string // folder of what must survive
	// Host names and addresses that gateways and browsers call the backend by,
	// for its certificates; the first is told to gateways as their endpoint's.
	Hosts []string
	// Where the roles listen, host:port.
	Auth, Endpoint, Web string
	// CertificateLife is how long an operational certificate is good; 0: as long as
	// the constant of that name says.
	CertificateLife time.Duration
	Ready           string // file that receives the addresses as JSON once all of them listen
	Log             *slog.Logger
	Clock           clock.Clock // nil: clock.System
}

// CertificateLife is how long an operational certificate is good where nobody says
// otherwise.
const CertificateLife = pki.OperationalLife

// Addresses are where the roles listen, port 0 replaced.
type Addresses struct {
	Auth     string `json:"auth"`
	Endpoint string `json:"endpoint"`
	Web      string `json:"web"`
}

// OpenStore opens the backend's database in the state folder.
func OpenStore(ctx context.Context, state string, log *slog.Logger) (*store.Store, error) {
	return openStore(ctx, state, clock.System, log)
}

func openStore(ctx context.Context, state string, clk clock.Clock, log *slog.Logger) (*store.Store, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	return store.Open(ctx, filepath.Join(state, "cloud.db"), clk, log)
}

// OpenCA opens the authorities in the state folder, and makes them when there
// are none.
func OpenCA(state string) (*pki.CA, error) { return openCA(state, clock.System) }

func openCA(state string, clk clock.Clock) (*pki.CA, error) {
	return pki.OpenCA(disk.OS, filepath.Join(state, "ca"), clk, rand.Reader)
}

// LoadCA opens the authorities in the state folder; the error is pki.ErrNoCA when
// there are none.
func LoadCA(state string) (*pki.CA, error) {
	return pki.LoadCA(disk.OS, filepath.Join(state, "ca"), clock.System, rand.Reader)
}

// OpenAccounts gives access to the accounts of a store.
func OpenAccounts(s *store.Store, log *slog.Logger) (*access.Accounts, error) {
	return openAccounts(s, clock.System, log)
}

func openAccounts(s *store.Store, clk clock.Clock, log *slog.Logger) (*access.Accounts, error) {
	return access.NewAccounts(s, clk, log, access.Params)
}

// Serve plays all roles until ctx ends or one of them fails.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	db, err := openStore(ctx, cfg.State, cfg.Clock, cfg.Log)
	if err != nil {
		return err
	}
	err = serve(ctx, cfg, db)
	return errors.Join(err, db.Close())
}

func serve(ctx context.Context, cfg Config, db *store.Store) error {
	ca, err := openCA(cfg.State, cfg.Clock)
	if err != nil {
		return err
	}
	ca.Life = cfg.CertificateLife
	if err := db.AllOffline(ctx); err != nil { // whoever was online before is not any more
		return err
	}
	listeners, addresses, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	roles, err := newRoles(cfg, db, ca, addresses)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, len(roles))
	for i, r := range roles {
		cfg.Log.Info("serving", "role", r.name, "address", listeners[i].Addr())
		go func() {
			err := r.serve(ctx, listeners[i])
			if err != nil {
				err = fmt.Errorf("the %s: %w", r.name, err)
				stop(err) // one role down takes the others along: a supervisor starts afresh
			}
			ended <- err
		}()
	}
	if cfg.Ready != "" {
		text, err := json.Marshal(addresses)
		if err == nil {
			err = disk.WriteFile(disk.OS, cfg.Ready, text, 0o644)
		}
		if err != nil {
			stop(err)
		}
	}
	<-ctx.Done()
	errs := make([]error, 0, len(roles))
	for range roles {
		errs = append(errs, <-ended)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && errors.Join(errs...) == nil {
		errs = append(errs, cause)
	}
	return errors.Join(errs...)
}

// listen opens the listeners of auth, endpoint and web, in this order.
func listen(ctx context.Context, cfg Config) (ls []net.Listener, a Addresses, err error) {
	var lc net.ListenConfig
	for _, addr := range []string{cfg.Auth, cfg.Endpoint, cfg.Web} {
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			for _, l := range ls {
				l.Close()
			}
			return nil, a, err
		}
		ls = append(ls, l)
	}
	return ls, Addresses{ls[0].Addr().String(), ls[1].Addr().String(), ls[2].Addr().String()}, nil
}
