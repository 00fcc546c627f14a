package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"penstock/backend/store"
	"penstock/certs/pki"
	"penstock/internal/clock"
	"penstock/internal/disk"
)

// Order is what the operator adds to a record.
type Order struct {
	Model, Board string // where the record says neither
	// Replaced, if any, is why the gateway has got another board: its certificates
	// for other keys are revoked for that reason.
	Replaced string
}

// Issued is an answer of the authority.
type Issued struct {
	Certificate *x509.Certificate
	Bundle      pki.Bundle
}

// WriteFile writes the bundle into a folder, as SERIAL.bundle.
func (i Issued) WriteFile(dir string) error {
	text, err := i.Bundle.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return disk.WriteFile(disk.OS, filepath.Join(dir, i.Certificate.Subject.CommonName+".bundle"), text, 0o644)
}

// maxRecord is how large a record may be, in bytes.
const maxRecord = 64 << 10

// ReadRecord reads a record.
func ReadRecord(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxRecord+1))
	if err == nil && len(text) > maxRecord {
		err = fmt.Errorf("it has more than %d bytes, and is no record", maxRecord)
	}
	return text, err
}

// Issue signs a gateway's record, makes the gateway known, and answers what it takes
// over. The same record may come again, when the answer was lost: it is answered
// with the certificate that was issued for it.
func Issue(ctx context.Context, ca *pki.CA, db *store.Store, record []byte, o Order) (i Issued, err error) {
	r, err := pki.ParseRecord(record)
	if err != nil {
		return i, err
	}
	for _, f := range []struct {
		name  string
		said  *string
		given string
	}{{"model", &r.Model, o.Model}, {"board", &r.Board, o.Board}} {
		switch {
		case *f.said == "" && f.given == "":
			return i, fmt.Errorf("the request of %s does not say which %s it is; give -%s", r.Serial, f.name, f.name)
		case *f.said == "":
			*f.said = f.given
		case f.given != "" && f.given != *f.said:
			return i, fmt.Errorf("the request of %s is signed for the %s %s, not for %s", r.Serial, f.name, *f.said, f.given)
		}
	}
	if err := pki.CheckModel(r.Model); err != nil {
		return i, err
	}
	gw := store.Gateway{Serial: r.Serial, Model: r.Model, Board: r.Board}
	i.Certificate, err = issued(ctx, ca, db, r)
	if err != nil {
		return i, err
	}
	if i.Certificate == nil {
		leaf, err := ca.IssueGateway(record, r.Board)
		if err != nil {
			return i, err
		}
		key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		c := store.Certificate{Number: pki.Number(leaf), Role: string(pki.Factory), Key: key[:], DER: leaf.Raw,
			NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
		if o.Replaced != "" {
			err = db.ReplaceGateway(ctx, gw, c, o.Replaced)
		} else {
			err = db.AddGateway(ctx, gw, c)
		}
		i.Certificate = leaf
		if errors.Is(err, store.ErrOtherKey) {
			err = fmt.Errorf("%w; where the board was replaced, give -replaced WHY, which revokes the old one", err)
		}
		if err != nil {
			return i, err
		}
	}
	if r.Claim != nil {
		if err := db.SetClaim(ctx, r.Serial, r.Claim, r.Relabel || o.Replaced != ""); err != nil {
			return i, err
		}
	}
	if i.Bundle.TUFRoot, err = ca.TUFRoot(); err != nil && !errors.Is(err, pki.ErrNoSigning) {
		return i, err
	}
	i.Bundle.Roots = ca.Roots()
	i.Bundle.Chain, err = ca.Chain(i.Certificate)
	return i, err
}

// issued is the certificate in force that was issued for the very same record, nil
// if there is none.
func issued(ctx context.Context, ca *pki.CA, db *store.Store, r pki.Record) (*x509.Certificate, error) {
	request, err := pki.ParseRequest(r.PEM)
	if err != nil {
		return nil, err
	}
	// A gateway that is shut out gets no answer: AddGateway tells.
	var revoked *store.RevokedError
	if err := db.Standing(ctx, r.Serial, ""); errors.As(err, &revoked) || errors.Is(err, store.ErrNoGateway) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	gw, err := db.Gateway(ctx, r.Serial)
	if err != nil || gw.Model != r.Model {
		return nil, err
	}
	all, err := db.Certificates(ctx, r.Serial)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(request.RawSubjectPublicKeyInfo)
	for _, c := range all {
		if c.Role != string(pki.Factory) || !bytes.Equal(c.Key, key[:]) || !c.Revoked.IsZero() || !fresh(c) {
			continue
		}
		leaf, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, err
		}
		if g, err := pki.ReadGateway(leaf); err != nil || g.Board != r.Board {
			continue
		}
		if believed(ca, leaf) {
			return leaf, nil
		}
	}
	return nil, nil
}

// believed tells whether whoever knows the root of today believes a certificate: its
// authority may have been rotated since.
func believed(ca *pki.CA, leaf *x509.Certificate) bool {
	chain, err := ca.ChainOf(leaf)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Roots())
	_, err = pki.Verify(chain, roots, clock.System.Now(), x509.ExtKeyUsageClientAuth)
	return err == nil
}

// fresh tells whether a certificate has most of its life ahead: no gateway should
// leave the bench with an old one.
func fresh(c store.Certificate) bool {
	return clock.System.Now().Before(c.NotBefore.Add(30 * 24 * time.Hour))
}
