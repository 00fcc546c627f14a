package command

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"penstock/internal/clock"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
)

const (
	// waiting bounds the commands that have come and are not begun.
	waiting = 32
	// actTime bounds the carrying out of one, retries and settling included.
	actTime = time.Minute
	// reportAgain is how soon a result is tried again that the disk refused.
	reportAgain = 5 * time.Second
	// maxText bounds the text of a result.
	maxText = 500
)

// Config is what an Executor needs. Every field is required.
type Config struct {
	FS  disk.FS
	Dir string // keeps commands.json

	// Act tells the pump, reads it again, and says what became of the command:
	// outcome, raw value and text. It is called from a goroutine for each pump,
	// one command of a pump at a time, in the order in which they came.
	Act func(ctx context.Context, c telemetry.Command) telemetry.CommandResult
	// Report takes a result to the endpoint, and returns nil once it is durable.
	Report func(telemetry.CommandResult) error
	// Trusted tells whether the clock's time is known to be right.
	Trusted func() bool

	Clock clock.Clock
	Log   *slog.Logger
}

// Executor carries commands out. Take may be called from any goroutine, once Run
// runs.
type Executor struct {
	cfg     Config
	workers sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run; guarded by mu, nil before it runs
	journal *journal
	came    map[telemetry.CommandID]bool   // waiting or under way
	queues  map[string][]telemetry.Command // by pump: those waiting, while a worker runs
}

// New reads the journal. It carries nothing out yet.
func New(cfg Config) (*Executor, error) {
	j, err := openJournal(cfg.FS, cfg.Dir, cfg.Clock.Now(), cfg.Log)
	if err != nil {
		return nil, err
	}
	return &Executor{cfg: cfg, journal: j, came: map[telemetry.CommandID]bool{}, queues: map[string][]telemetry.Command{}}, nil
}

// Run reports what the last run left open, then carries out what comes until ctx
// ends. It returns when nothing is under way any more and every result has been
// handed to Report.
func (e *Executor) Run(ctx context.Context) {
	e.mu.Lock()
	e.ctx = ctx
	for _, en := range e.journal.book.Entries {
		if en.Result == nil {
			en.Result = &answer{Outcome: telemetry.OutcomeUnknown, Time: e.cfg.Clock.Now().UnixMilli(),
				Text: "the gateway stopped in between; look at the pump"}
			e.cfg.Log.Warn("a command was under way when the gateway stopped; whether the pump was told, nobody knows", "id", en.ID)
		}
		if !en.Reported {
			e.workers.Go(func() { e.report(ctx, en) })
		}
	}
	if err := e.journal.save(); err != nil {
		e.cfg.Log.Error("the journal of commands could not be written", "err", err)
	}
	e.mu.Unlock()
	<-ctx.Done()
	wg := &e.workers
	wg.Wait() // their actions end with ctx
}

// Take takes a command that has come down. It does not wait for it.
func (e *Executor) Take(c telemetry.Command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	log := e.cfg.Log.With("id", c.ID, "pump", c.Pump, "command", c.Name, "value", c.Value)
	if e.ctx == nil || e.ctx.Err() != nil {
		log.Info("a command came while the gateway was stopping; it will be sent again")
		return
	}
	if known := e.journal.find(c.ID); known != nil || e.came[c.ID] {
		log.Info("a command came again; it is not carried out twice")
		if known != nil && known.Result != nil && known.Reported {
			e.workers.Go(func() { e.report(e.ctx, known) })
		}
		return
	}
	if len(e.came) >= waiting {
		// Not taken: it stays with the endpoint, and comes again with the next
		// connection if it is still good then.
		log.Warn("more commands than can be carried out; this one is left to the endpoint", "waiting", len(e.came))
		return
	}
	log.Info("a command came")
	e.came[c.ID] = true
	queue, busy := e.queues[c.Pump]
	e.queues[c.Pump] = append(queue, c)
	if !busy {
		e.workers.Go(func() { e.work(e.ctx, c.Pump) })
	}
}

// work carries out the commands of one pump until there is none left.
func (e *Executor) work(ctx context.Context, pump string) {
	for {
		e.mu.Lock()
		queue := e.queues[pump]
		if len(queue) == 0 || ctx.Err() != nil {
			delete(e.queues, pump)
			e.mu.Unlock()
			return
		}
		c := queue[0]
		e.queues[pump] = queue[1:]
		e.mu.Unlock()
		e.carryOut(ctx, c)
		e.mu.Lock()
		delete(e.came, c.ID)
		e.mu.Unlock()
	}
}

// carryOut is the life of one command.
func (e *Executor) carryOut(ctx context.Context, c telemetry.Command) {
	now := e.cfg.Clock.Now()
	e.mu.Lock()
	refused := e.refusal(c, now)
	entry, err := e.journal.add(c, refused, now)
	e.mu.Unlock()
	if err != nil {
		// Its id is not written down, so it must not be carried out, now or, once
		// this result has gone out, ever. Only a result in the journal ensures that:
		// without it nothing is said either, and the endpoint tries again.
		e.cfg.Log.Error("a command could not be written down, so it is not carried out", "id", c.ID, "err", err)
		return
	}
	if refused == nil {
		within, cancel := context.WithCancel(ctx)
		go func() {
			if e.cfg.Clock.Sleep(within, actTime) == nil {
				cancel()
			}
		}()
		r := e.cfg.Act(within, c)
		cancel()
		e.mu.Lock()
		entry.Result = &answer{Outcome: r.Outcome, Time: e.cfg.Clock.Now().UnixMilli(), Raw: r.Raw, Text: clip(r.Text)}
		if err := e.journal.save(); err != nil {
			// Said all the same: if the power fails now, unknown is said as well,
			// and the endpoint knows which counts.
			e.cfg.Log.Error("the result of a command could not be written down", "id", c.ID, "err", err)
		}
		e.mu.Unlock()
	}
	e.report(ctx, entry)
}

// refusal is why a command is not carried out, or nil. e.mu is held.
func (e *Executor) refusal(c telemetry.Command, now time.Time) *answer {
	no := func(o telemetry.Outcome, format string, args ...any) *answer {
		return &answer{Outcome: o, Time: now.UnixMilli(), Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Owner < e.journal.book.Owner:
		return no(telemetry.Cancelled, "the gateway has another owner by now")
	case !e.cfg.Trusted():
		return no(telemetry.ClockUnknown, "the gateway does not know the time, so it cannot tell whether the command is still meant")
	case !now.Before(c.Expires):
		return no(telemetry.Expired, "it came %v too late", now.Sub(c.Expires).Round(time.Second))
	case now.UnixMilli() < e.journal.book.DoubtUntil:
		return no(telemetry.OutcomeUnknown, "the gateway's journal of commands was lost; look at the pump, and ask again with another command")
	}
	return nil
}

// report hands a result on until that works or ctx ends; then it waits in the
// journal for the next start.
func (e *Executor) report(ctx context.Context, en *entry) {
	e.mu.Lock()
	r := en.result()
	e.mu.Unlock()
	for {
		err := e.cfg.Report(r)
		if err == nil {
			break
		}
		e.cfg.Log.Error("the result of a command could not be kept; trying again", "id", r.ID, "err", err)
		if e.cfg.Clock.Sleep(ctx, reportAgain) != nil {
			return
		}
	}
	e.cfg.Log.Info("a command has its result", "id", r.ID, "outcome", r.Outcome, "text", r.Text)
	e.mu.Lock()
	defer e.mu.Unlock()
	if en.Reported {
		return // it was asked for again
	}
	en.Reported = true
	if err := e.journal.save(); err != nil {
		e.cfg.Log.Warn("that a result was handed on cannot be written down; it is said again after the next start", "id", r.ID, "err", err)
	}
}

func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}
