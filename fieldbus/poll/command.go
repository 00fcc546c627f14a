package poll

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/fieldbus/profile"
	"penstock/internal/telemetry"
)

// Command asks for a change on a pump. Names and values are those of the
// pump's profile: {"bus1-12", "setpoint", "45.5"} is in percent,
// {"bus1-12", "control_mode", "constant pressure"} a word of the enumeration or
// its number, {"bus1-12", "running", "off"} a stop, {"bus1-12", "access",
// "remote"} takes command of the pump, {"bus1-12", "reset_alarm", ""}.
type Command struct {
	Pump  string // its ID
	Name  string
	Value string
}

// Result is a command that was carried out: the pump was read again, and shows
// what was asked for.
type Result struct {
	Sent time.Time // when the pump was told
	Seen time.Time // when it was seen to have followed
	Raw  int64     // what was read back
	Text string    // the same for people, "45.50 %"
}

// What can become of a command. A refusal changed nothing on the pump; after
// another error, look at the pump.
var (
	// ErrRefused: nothing was changed. The text says why and what to do.
	ErrRefused = errors.New("refused")
	// ErrNotFollowed: the pump was told, and shows something else.
	ErrNotFollowed = errors.New("the pump did not follow")
	// ErrNoAnswer: the pump does not answer.
	ErrNoAnswer = errors.New("the pump does not answer")
)

// order is a command on its way. It belongs to the goroutine that runs the bus;
// at, fresh and its place in Bus.commands are guarded by Bus.mu.
type order struct {
	ctx context.Context
	d   *device
	c   profile.Command
	raw int64 // what to write, or the bit

	at    time.Time // not before
	fresh bool      // the loop has not seen it yet

	phase   phase
	tries   int
	told    int    // times, on GENIbus
	unheard bool   // the last of these was not answered
	word    uint16 // of the register whose bit is changed
	sent    time.Time
	until   time.Time // then it has not followed
	result  chan outcome
}

type outcome struct {
	Result
	err error
}

// phase is the transaction that an order comes to next.
type phase int

const (
	checking  phase = iota // who commands the pump?
	fetching               // the register's other bits
	writing                // the value, or the bit set
	releasing              // the bit of a pulse cleared
	verifying              // has the pump followed?
)

// again is how soon a pump that has not followed yet is looked at again. Polls
// go on in between.
const again = 200 * time.Millisecond

// commandAttempts is how often a transaction of a command is made before the
// pump counts as not answering.
const commandAttempts = 3

// Write carries a command out, ahead of all polls, and returns when the pump
// shows what was asked for. Any goroutine may call it, while Run runs. Where ctx
// ends first, the pump may or may not have been told.
func (b *Bus) Write(ctx context.Context, cmd Command) (Result, error) {
	o, err := b.order(cmd)
	if err != nil {
		return Result{}, err
	}
	o.ctx = ctx
	b.mu.Lock()
	b.commands = append(b.commands, o)
	if b.wake != nil {
		b.wake()
	}
	b.mu.Unlock()
	select {
	case out := <-o.result:
		return out.Result, out.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("%s of %s: %w before the pump was seen to follow", cmd.Name, cmd.Pump, ctx.Err())
	}
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// order checks a command against the pump's profile.
func (b *Bus) order(cmd Command) (*order, error) {
	i := slices.IndexFunc(b.devices, func(d *device) bool { return d.ID == cmd.Pump })
	if i < 0 {
		return nil, refuse("there is no pump %q on %s", cmd.Pump, b.name)
	}
	d := b.devices[i]
	c, ok := d.Profile.Command(cmd.Name)
	if !ok {
		var known []string
		for _, c := range d.Profile.Commands {
			known = append(known, c.Name)
		}
		return nil, refuse("%s (%s) has no command %q; it has: %s", d.ID, d.Profile.Name, cmd.Name, strings.Join(known, ", "))
	}
	raw, err := argument(c, strings.TrimSpace(cmd.Value))
	if err != nil {
		return nil, refuse("%s of %s: %w", cmd.Name, d.ID, err)
	}
	return &order{d: d, c: c, raw: raw, fresh: true, result: make(chan outcome, 1)}, nil
}

// argument turns what a person wrote into the raw value.
func argument(c profile.Command, s string) (int64, error) {
	v := c.Value
	switch {
	case c.Pulse:
		if s != "" {
			return 0, fmt.Errorf("it takes no value, and was given %q", s)
		}
		return 1, nil
	case v.Enum != "":
		raw, ok := telemetry.EnumCode(v.Enum, s)
		if !ok {
			n, err := strconv.ParseInt(s, 10, 64)
			raw, ok = n, err == nil
		}
		if !ok || !slices.Contains(v.Allowed, raw) {
			var words []string
			for _, a := range v.Allowed {
				words = append(words, fmt.Sprintf("%s (%d)", telemetry.EnumText(v.Enum, a), a))
			}
			return 0, fmt.Errorf("%q is not allowed; allowed: %s", s, strings.Join(words, ", "))
		}
		return raw, nil
	}
	limits := fmt.Sprintf("%s to %s", telemetry.Text("", v.Unit, v.Scale, v.Min), telemetry.Text("", v.Unit, v.Scale, v.Max))
	number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(s, v.Unit), telemetry.UnitText(v.Unit)))
	// Only plain decimals: no exponent, whose value might fill the memory.
	if len(number) > 30 || strings.Trim(number, "0123456789.-") != "" {
		return 0, fmt.Errorf("%q is not a number; allowed: %s", s, limits)
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is not a number; allowed: %s", s, limits)
	}
	raw, _ := v.Scale.Raw(r)
	if !raw.IsInt64() || raw.Int64() < v.Min || raw.Int64() > v.Max {
		return 0, fmt.Errorf("%s is out of range; allowed: %s", s, limits)
	}
	return raw.Int64(), nil
}

// nextCommand is the command to go on with now, or nil. A device has one
// command under way; others wait for it.
func (b *Bus) nextCommand(now time.Time) (next *order) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[*device]bool{}
	for _, o := range slices.Clone(b.commands) {
		o.fresh = false
		if o.ctx.Err() != nil {
			b.drop(o)
			continue
		}
		if taken[o.d] {
			o.at = now.Add(again)
			continue
		}
		taken[o.d] = true
		if next == nil && !o.at.After(now) {
			next = o
		}
	}
	return next
}

// drop forgets an order. mu is held.
func (b *Bus) drop(o *order) {
	b.commands = slices.DeleteFunc(b.commands, func(x *order) bool { return x == o })
}

// finish ends an order.
func (b *Bus) finish(o *order, r Result, err error) {
	b.mu.Lock()
	b.drop(o)
	b.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%s of %s: %w", o.c.Name, o.d.ID, err)
	}
	o.result <- outcome{r, err}
}

// refuseCommands ends all orders, because the line cannot be used.
func (b *Bus) refuseCommands() {
	b.mu.Lock()
	all, problem := slices.Clone(b.commands), b.status.problem
	b.mu.Unlock()
	for _, o := range all {
		if o.sent.IsZero() {
			b.finish(o, Result{}, refuse("the line cannot be used: %s", problem))
		} else {
			b.finish(o, Result{}, fmt.Errorf("%w: the line failed after it was told: %s", ErrNoAnswer, problem))
		}
	}
}

func (b *Bus) cancelCommands() {
	b.mu.Lock()
	all := slices.Clone(b.commands)
	b.mu.Unlock()
	for _, o := range all {
		if o.sent.IsZero() {
			b.finish(o, Result{}, refuse("the bus is being shut down"))
		} else {
			b.finish(o, Result{}, fmt.Errorf("%w in time: the bus is being shut down", ErrNotFollowed))
		}
	}
}

// step does the next transaction of an order.
func (b *Bus) step(ctx context.Context, o *order) {
	d := o.d
	if d.failures >= deadAfter {
		b.finish(o, Result{}, fmt.Errorf("%w since %s", ErrNoAnswer, d.sinceText()))
		return
	}
	if d.doubtful() {
		b.identifyFor(ctx, o)
		return
	}
	before := b.clk.Now()
	err := b.transact(ctx, o)
	now := b.clk.Now()
	switch faultOf(err) {
	case noFault, replanned: // what was replanned is tried again
		o.tries = 0
		b.answered(d, now, true)
	case silent:
		b.spent(d, now.Sub(before))
		if o.tries++; o.tries < commandAttempts {
			return
		}
		what := ErrNoAnswer
		if !o.sent.IsZero() {
			what = fmt.Errorf("%w any more; it may or may not have been told", ErrNoAnswer)
		}
		b.finish(o, Result{}, what)
	case refusing, busy:
		b.answered(d, now, false)
		if o.phase == verifying {
			b.finish(o, Result{}, fmt.Errorf("%w: it was told, and reading back failed: %w", ErrNotFollowed, err))
			return
		}
		b.finish(o, Result{}, fmt.Errorf("%w by the pump: %w", ErrRefused, err))
	default:
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrNotFollowed) {
			b.answered(d, now, true)
			b.finish(o, Result{}, err)
			return
		}
		if ctx.Err() == nil {
			b.lineFailed(err, now)
		}
	}
}

// identifyFor makes sure that an order goes to the pump that it is meant for.
func (b *Bus) identifyFor(ctx context.Context, o *order) {
	d := o.d
	if d.id.problem != "" && b.clk.Now().Before(d.notBefore) {
		b.finish(o, Result{}, refuse("%s", d.id.problem))
		return
	}
	if b.identify(ctx, d) != silent {
		return
	}
	if o.tries++; o.tries >= commandAttempts {
		b.finish(o, Result{}, ErrNoAnswer)
	}
}

func (d *device) sinceText() string {
	if d.lastGood.IsZero() {
		return "the gateway started"
	}
	return d.lastGood.Format(time.TimeOnly)
}

// transact does the transaction of an order's phase, and moves it on.
func (b *Bus) transact(ctx context.Context, o *order) error {
	if b.geni != nil {
		return b.transactGeni(ctx, o)
	}
	d, c := o.d, o.c
	switch o.phase {
	case checking:
		word, err := b.check(ctx, o)
		if err != nil {
			return err
		}
		o.word = word
		o.phase = writing
		if c.Bit >= 0 {
			o.phase = fetching
		}
	case fetching:
		// The bits that are neither changed, kept nor copied stay as they are.
		it := profile.Item{Register: c.Register, Width: 16, OnesValid: true}
		raw, _, err := b.readItem(ctx, d, it)
		if err != nil {
			return err
		}
		mask := uint16(1) << c.Bit
		for _, bit := range c.Keep {
			mask |= 1 << bit
			o.word |= 1 << bit
		}
		for bit := range c.Copy {
			mask |= 1 << bit
		}
		mask |= 1 << c.Bit
		o.word = o.word&mask | uint16(raw)&^mask
		o.word &^= 1 << c.Bit
		o.word |= uint16(o.raw) << c.Bit
		o.phase = writing
	case writing:
		value := uint16(o.raw)
		if c.Bit >= 0 {
			value = o.word
		}
		if o.tries == 0 {
			o.sent = b.clk.Now()
		}
		if err := b.tell(ctx, d, c.Register, value); err != nil {
			return err
		}
		o.until = o.sent.Add(c.Settle)
		o.phase = verifying
		if c.Pulse {
			o.phase = releasing
		}
	case releasing:
		if err := b.master.Write(ctx, byte(d.Address), d.Profile.Wire(c.Register), o.word&^(1<<c.Bit)); err != nil {
			return err
		}
		o.phase = verifying
	case verifying:
		return b.verify(ctx, o)
	}
	return nil
}

// tell writes a register or switches a coil.
func (b *Bus) tell(ctx context.Context, d *device, number int, value uint16) error {
	if profile.IsCoil(number) {
		return b.master.WriteCoil(ctx, byte(d.Address), d.Profile.Wire(number), value != 0)
	}
	return b.master.Write(ctx, byte(d.Address), d.Profile.Wire(number), value)
}

// check reads who commands the pump, and the flags that the command copies. It
// returns the register's bits that follow those flags.
func (b *Bus) check(ctx context.Context, o *order) (word uint16, err error) {
	d, c := o.d, o.c
	var need set
	want := func(point string) {
		for i := range d.items {
			if d.items[i].series >= 0 && d.items[i].Point.Name == point {
				need.add(i)
			}
		}
	}
	takes := c.Name == "access" && o.raw == 1
	if c.Remote || takes {
		want("access")
		want("forced_local")
	}
	for _, point := range c.Copy {
		want(point)
	}
	shows := map[string]value{}
	frames := d.frames(need, b.cost(d))
	for i := range frames {
		_, err := b.read(ctx, d, &frames[i], func(i int, raw int64, q telemetry.Quality) {
			shows[d.items[i].Point.Name] = value{i, raw, q}
		})
		if err != nil {
			return 0, err
		}
	}
	if d.lost() {
		return 0, refuse("the pump's module has lost its pump; check the module and its link to the pump")
	}
	if v, ok := shows["forced_local"]; ok && v.q == telemetry.Good && v.raw == 1 {
		return 0, refuse("the pump is forced to local by its panel or an input; release it there, then take it with access remote")
	}
	if v, ok := shows["access"]; ok && c.Remote && (v.q != telemetry.Good || v.raw != 1) {
		return 0, refuse("the pump is in local: its panel or inputs command it; take it with access remote first")
	}
	for bit, point := range c.Copy {
		if v, ok := shows[point]; ok && v.q == telemetry.Good && v.raw != 0 {
			word |= 1 << bit
		}
	}
	return word, nil
}

// readItem reads one item that need not be a point of the profile.
func (b *Bus) readItem(ctx context.Context, d *device, it profile.Item) (int64, telemetry.Quality, error) {
	s := spans([]profile.Item{it}, d.blocks)[0]
	if s.block < 0 {
		return 0, 0, refuse("the pump has no register %d", it.Register)
	}
	f := frame{block: s.block, start: s.first, count: s.last - s.first + 1}
	regs := b.regs[:f.count]
	if _, err := b.master.Read(ctx, d.request(&f), regs); err != nil {
		return 0, 0, err
	}
	raw, q := it.Decode(regs)
	return raw, q, nil
}

// readBack reads the item that shows what has become of a command.
func (b *Bus) readBack(ctx context.Context, d *device, it profile.Item) (int64, telemetry.Quality, error) {
	if b.geni != nil {
		return b.readPoint(ctx, d, it.Point.Name)
	}
	return b.readItem(ctx, d, it)
}

// verify reads the result back, and ends the order or has it looked at again.
func (b *Bus) verify(ctx context.Context, o *order) error {
	d, c := o.d, o.c
	it, shown := d.Profile.Item(c.ReadBack)
	if !shown {
		point, _ := telemetry.LookupPoint(c.Name)
		it = profile.Item{Point: point, Register: c.Register, Width: 16, Scale: c.Value.Scale}
		if c.Bit >= 0 {
			it.Bits = &profile.Bits{Low: c.Bit, High: c.Bit}
		}
	}
	raw, q, err := b.readBack(ctx, d, it)
	if err != nil {
		return err
	}
	if b.geni != nil {
		it.Scale = d.scaleOf(it.Point.Name)
		if !it.Scale.Known() && q == telemetry.Good {
			q = telemetry.Missing
		}
	}
	now := b.clk.Now()
	text := telemetry.Text(it.Point.Enum, it.Point.Unit, it.Scale, raw)
	if q == telemetry.Good && c.Followed(o.raw, raw, it.Scale) {
		b.finish(o, Result{Sent: o.sent, Seen: now, Raw: raw, Text: text}, nil)
		return nil
	}
	if o.unheard && o.told < commandAttempts {
		o.phase = writing
		return nil
	}
	if now.Before(o.until) {
		b.mu.Lock()
		o.at = now.Add(again)
		b.mu.Unlock()
		return nil
	}
	if q != telemetry.Good {
		text = q.String()
	}
	return fmt.Errorf("%w: %s shows %s after %v", ErrNotFollowed, it.Point.Name, text, c.Settle)
}
