package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"penstock/internal/telemetry"
	"penstock/uplink/wire"
)

// ErrNoCommand: there is no command of that id.
var ErrNoCommand = errors.New("there is no such command")

// conflictMemory is how long a gateway is told, whenever it connects, to give up
// an epoch that two disks have used.
const conflictMemory = 7 * 24 * time.Hour

// Command is a command with what has become of it.
type Command struct {
	telemetry.Command
	Gateway string
	By      string // who asked
	Created time.Time
	Sent    time.Time                // when it first went out; zero: not yet
	Result  *telemetry.CommandResult // nil: none has come
}

// Downlink is what is to be sent to a gateway now.
type Downlink struct {
	Gateway  string
	Commands []telemetry.Command // oldest first; the gateway has not answered them
	Watch    time.Time           // until when somebody looks; zero: nobody
	Epochs   []wire.Epoch        // not to be used any longer
	// Catalogue: there are blocks whose catalogue has not come.
	Catalogue bool
}

// bell tells waiting readers in this process that something is to be sent.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // guarded by mu
}

// Stirred returns a channel that is closed when there is something new to send.
// What another process writes rings no bell: see DownlinkVersion.
func (s *Store) Stirred() <-chan struct{} {
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	if s.bell.rung == nil {
		s.bell.rung = make(chan struct{})
	}
	return s.bell.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// AddCommand puts a command for a gateway into the table, to be sent until it is
// answered or life has passed. It answers ErrNoGateway, or a *RevokedError.
func (s *Store) AddCommand(ctx context.Context, gateway, pump, name, value, by string, life time.Duration) (Command, error) {
	now := s.clock.Now()
	c := Command{Gateway: gateway, By: by, Created: now.UTC(), Command: telemetry.Command{
		Pump: pump, Name: name, Value: value, Expires: now.Add(life).UTC().Truncate(time.Millisecond)}}
	for what, text := range map[string]string{"pump": pump, "command": name} {
		if strings.TrimSpace(text) == "" {
			return c, fmt.Errorf("a command without a %s", what)
		}
	}
	if d := (wire.Down{Command: &c.Command}); life > 0 {
		if _, err := wire.ParseDown(wire.AppendDown(nil, d)); err != nil {
			return c, err // what no gateway would read is not sent
		}
	} else {
		return c, fmt.Errorf("a command that is good for %v", life)
	}
	if _, err := rand.Read(c.ID[:]); err != nil {
		return c, err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := standing(ctx, tx, gateway, ""); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT coalesce((SELECT owner FROM owners WHERE gateway = ?), 0)`, gateway).Scan(&c.Owner); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO commands (id, gateway, pump, name, value, owner, by, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.ID[:], gateway, pump, name, value, c.Owner, by, now.UnixMilli(), c.Expires.UnixMilli())
		return err
	})
	if err != nil {
		return c, fmt.Errorf("a command for %s: %w", gateway, err)
	}
	s.bell.ring()
	return c, nil
}

const commandColumns = `SELECT id, gateway, pump, name, value, owner, by, created, expires, sent, outcome, answered, raw, text FROM commands `

func scanCommand(row interface{ Scan(...any) error }) (c Command, err error) {
	var id []byte
	var created, expires int64
	var sent, outcome, answered, raw sql.NullInt64
	var text sql.NullString
	if err := row.Scan(&id, &c.Gateway, &c.Pump, &c.Name, &c.Value, &c.Owner, &c.By, &created, &expires, &sent, &outcome, &answered, &raw, &text); err != nil {
		return c, err
	}
	if len(id) != len(c.ID) {
		return c, fmt.Errorf("a command of %s has an id of %d bytes", c.Gateway, len(id))
	}
	c.ID = telemetry.CommandID(id)
	c.Created, c.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	if sent.Valid {
		c.Sent = time.UnixMilli(sent.Int64).UTC()
	}
	if outcome.Valid {
		c.Result = &telemetry.CommandResult{ID: c.ID, Outcome: telemetry.Outcome(outcome.Int64),
			Time: time.UnixMilli(answered.Int64).UTC(), Raw: raw.Int64, Text: text.String}
	}
	return c, nil
}

// Command is one command, or ErrNoCommand.
func (s *Store) Command(ctx context.Context, id telemetry.CommandID) (Command, error) {
	c, err := scanCommand(s.reader.QueryRowContext(ctx, commandColumns+`WHERE id = ?`, id[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("%v: %w", id, ErrNoCommand)
	}
	return c, err
}

// Commands are the newest commands of a gateway, newest first.
func (s *Store) Commands(ctx context.Context, gateway string, most int) ([]Command, error) {
	return s.commands(ctx, `WHERE gateway = ? ORDER BY n DESC LIMIT ?`, gateway, most)
}

func (s *Store) commands(ctx context.Context, where string, args ...any) ([]Command, error) {
	rows, err := s.reader.QueryContext(ctx, commandColumns+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Command
	for rows.Next() {
		c, err := scanCommand(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// ChangeOwner notes that a gateway has another owner: what is pending of the old
// one is cancelled, and the gateway takes nothing of it any more.
func (s *Store) ChangeOwner(ctx context.Context, gateway string) error {
	now := s.clock.Now().UnixMilli()
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO owners (gateway, owner) VALUES (?, 1) ON CONFLICT DO UPDATE SET owner = owner + 1`, gateway); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE commands SET answered = ?2, raw = 0,
			outcome = iif(sent IS NULL, ?3, ?4), text = iif(sent IS NULL, 'the gateway has another owner', 'the gateway changed hands before it answered')
			WHERE gateway = ?1 AND outcome IS NULL`, gateway, now, telemetry.Cancelled, telemetry.OutcomeUnknown)
		return err
	})
}

// Watch notes that somebody looks at a gateway, for so long from now.
func (s *Store) Watch(ctx context.Context, gateway string, lease time.Duration) error {
	until := s.clock.Now().Add(lease).UnixMilli()
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO watches (gateway, until) VALUES (?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)`, gateway, until)
		return err
	})
	s.bell.ring()
	return err
}

// DownlinkVersion is a number that is another one once Downlinks may have something
// new to send, whichever process wrote it. It costs one row.
func (s *Store) DownlinkVersion(ctx context.Context) (n int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT n FROM downlink_version`).Scan(&n)
	return n, err
}

// Downlinks lists what is to be sent now, by gateway. It is one look at what is
// open, however many gateways there are.
func (s *Store) Downlinks(ctx context.Context) (map[string]*Downlink, error) {
	now := s.clock.Now()
	all := map[string]*Downlink{}
	of := func(gateway string) *Downlink {
		if all[gateway] == nil {
			all[gateway] = &Downlink{Gateway: gateway}
		}
		return all[gateway]
	}
	commands, err := s.commands(ctx, `WHERE outcome IS NULL AND expires > ? ORDER BY n`, now.UnixMilli())
	if err != nil {
		return nil, err
	}
	for _, c := range commands {
		d := of(c.Gateway)
		d.Commands = append(d.Commands, c.Command)
	}
	rows, err := s.reader.QueryContext(ctx, `SELECT gateway, until, NULL FROM watches WHERE until > ?1
		UNION ALL SELECT gateway, latest, epoch FROM conflicts WHERE latest > ?2`, now.UnixMilli(), now.Add(-conflictMemory).UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var gateway string
		var at int64
		var epoch []byte
		if err := rows.Scan(&gateway, &at, &epoch); err != nil {
			return nil, err
		}
		if len(epoch) == len(wire.Epoch{}) {
			of(gateway).Epochs = append(of(gateway).Epochs, wire.Epoch(epoch))
		} else {
			of(gateway).Watch = time.UnixMilli(at)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	missing, err := s.missingCatalogues(ctx)
	for _, gateway := range missing {
		of(gateway).Catalogue = true
	}
	return all, err
}

// Sent notes that a command has gone out.
func (s *Store) Sent(ctx context.Context, id telemetry.CommandID) error {
	now := s.clock.Now().UnixMilli()
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE commands SET sent = ? WHERE id = ? AND sent IS NULL`, now, id[:])
		return err
	})
}

// settle notes a result that has come. A definite outcome outranks "unknown"; of
// two others the first counts, and a result of another gateway's command counts
// for nothing.
func settle(tx *sql.Tx, gateway string, r telemetry.CommandResult) error {
	_, err := tx.Exec(`UPDATE commands SET outcome = ?1, answered = ?2, raw = ?3, text = ?4
		WHERE id = ?5 AND gateway = ?6 AND (outcome IS NULL OR outcome = ?7)`,
		r.Outcome, r.Time.UnixMilli(), r.Raw, r.Text, r.ID[:], gateway, telemetry.OutcomeUnknown)
	return err
}
