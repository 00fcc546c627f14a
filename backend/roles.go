package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"penstock/backend/access"
	"penstock/backend/auth"
	"penstock/backend/endpoint"
	"penstock/backend/est"
	"penstock/backend/store"
	"penstock/backend/web"
	"penstock/certs/pki"
	"penstock/internal/disk"
)

// role is one part that the backend plays, on a listener of its own.
type role struct {
	name  string
	serve func(ctx context.Context, plain net.Listener) error
}

// newRoles makes auth, endpoint and web, in the order of listen.
func newRoles(cfg Config, db *store.Store, ca *pki.CA, at Addresses) ([]role, error) {
	certs := map[string]*pki.Server{}
	for _, name := range []string{"auth", "endpoint", "web"} {
		var err error
		if certs[name], err = ca.Server(name, cfg.Hosts); err != nil {
			return nil, fmt.Errorf("the certificate of the %s: %w", name, err)
		}
	}
	_, port, err := net.SplitHostPort(at.Endpoint)
	if err != nil {
		return nil, err
	}
	gateways := func(name string, check pki.GatewayCheck) *tls.Config {
		return pki.ForGatewaysUnder(certs[name].Certificate, ca.Pool, cfg.Clock.Now, check)
	}

	log := cfg.Log.With("role", "auth")
	guard, err := auth.NewTimeGuard(disk.OS, signedTimeFile(cfg.State), log)
	if err != nil {
		return nil, err
	}
	assignment := auth.New(auth.Config{Store: db, Certificate: certs["auth"].Certificate, Endpoint: "mqtts://" + net.JoinHostPort(cfg.Hosts[0], port),
		EST: est.New(est.Config{Authority: ca, Store: db, Life: cfg.CertificateLife, Clock: cfg.Clock, Log: log}), Roots: ca, Guard: guard, Clock: cfg.Clock, Log: log})
	authServer := httpRole(assignment, gateways("auth", admitUnrevoked(db)), pki.DefaultLimits, log, nil)

	mqttLog := cfg.Log.With("role", "endpoint")
	// A factory identity opens enrolment and updates, and nothing else.
	enrolled := pki.OnlyRole(pki.Operational, admitKnown(db))
	mqtt, err := endpoint.New(endpoint.Config{Store: db, TLS: gateways("endpoint", enrolled), Check: enrolled, Clock: cfg.Clock, Log: mqttLog})
	if err != nil {
		return nil, err
	}
	seen, err := lastRevocation(context.Background(), db)
	if err != nil {
		return nil, err
	}
	mqttServer := func(ctx context.Context, plain net.Listener) error {
		var watch sync.WaitGroup
		defer watch.Wait()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		watch.Go(func() { dropRevoked(ctx, db, seen, cfg.Clock, mqtt.Drop, mqttLog) })
		return mqtt.Serve(ctx, plain)
	}

	log = cfg.Log.With("role", "web")
	accounts, err := openAccounts(db, cfg.Clock, log)
	if err != nil {
		return nil, err
	}
	pages, err := web.New(web.Config{Store: db, Accounts: accounts, Sessions: access.NewSessions(db, accounts, cfg.Clock, log), Clock: cfg.Clock, Log: log})
	if err != nil {
		return nil, err
	}
	webServer := httpRole(pages, pki.ForBrowsers(certs["web"].Certificate, cfg.Clock.Now), browserLimits(), log, pages.Close)

	return []role{{"auth service", authServer}, {"endpoint", mqttServer}, {"web page", webServer}}, nil
}

// browserLimits are those of a listener whose peers show no certificate: an
// address is all that is known of them, and people of one office share one.
func browserLimits() pki.Limits {
	l := pki.DefaultLimits
	l.PerAddress = 128
	return l
}

// responseTime is how long a whole response may take to be taken; a stream of
// events sets a deadline for each event instead.
const responseTime = time.Minute

func signedTimeFile(state string) string { return filepath.Join(state, "signed-time.json") }

// ConfirmTime is the administrator's word that the machine's clock is right now,
// for the backend whose state folder that is.
func ConfirmTime(state string, now time.Time) error {
	return auth.ConfirmTime(disk.OS, signedTimeFile(state), now)
}

// httpRole serves a handler over TLS until ctx ends, and then lets requests
// finish that are under way. ending, if any, is called before that.
func httpRole(h http.Handler, config *tls.Config, limits pki.Limits, log *slog.Logger, ending func()) func(context.Context, net.Listener) error {
	return func(ctx context.Context, plain net.Listener) error {
		l := pki.Secure(plain, config, limits, func(from net.Addr, err error) {
			log.Info("a connection was refused", "remote", from.String(), "why", pki.Explain(err), "err", err)
		})
		server := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      responseTime,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // of single connections
		}
		if ending != nil {
			server.RegisterOnShutdown(ending)
		}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(patience); err != nil {
			server.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// admitKnown lets known gateways in that are not revoked, with a certificate that
// the registry has issued. It is asked at every
// handshake, of resumed sessions too.
func admitKnown(db *store.Store) pki.GatewayCheck {
	return func(serial string, leaf *x509.Certificate) error {
		if err := db.Admit(context.Background(), serial, pki.Number(leaf), leaf.Raw); err != nil {
			return fmt.Errorf("%s: %w", serial, err)
		}
		return nil
	}
}

// admitUnrevoked lets unknown gateways in as well: the auth service tells them
// over HTTP what is wrong.
func admitUnrevoked(db *store.Store) pki.GatewayCheck {
	known := admitKnown(db)
	return func(serial string, leaf *x509.Certificate) error {
		if err := known(serial, leaf); !errors.Is(err, store.ErrNoGateway) {
			return err
		}
		return nil
	}
}
