package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"penstock/backend/access"
	"penstock/backend/problem"
	"penstock/backend/store"
)

const (
	// A feed looks at its gateway at least this often, so that a state that
	// changes without a commit shows too.
	lookEvery = 5 * time.Second
	// A stream says that it is alive, and asks whether its session is, every so
	// many looks.
	beatEvery = 3
	// While somebody looks the gateway is asked to report often, by a lease that
	// is renewed every so many looks: it outlasts two that fail.
	leaseEvery = 3
	lease      = 60 * time.Second
	// Commits that follow one another closer than this make one event: a
	// gateway that comes back sends its queue many records a second.
	spacing = 200 * time.Millisecond
	// backlog is how many events a reader may be behind before it is cut off.
	backlog = 16
	// patience is how long one event may take to be written.
	patience = 10 * time.Second
	// maxStreams bounds the memory that readers can take.
	maxStreams = 2000
)

var errFull = errors.New("too many live streams")

// live feeds the streams. There is one feed for each gateway that somebody
// looks at, however many look: it reads the store once for each event, and
// hands every reader the same bytes.
type live struct {
	h     *Handler
	ctx   context.Context
	stop  context.CancelFunc
	feeds sync.WaitGroup

	mu      sync.Mutex // guards what follows and the readers of every feed
	open    map[string]*feed
	streams int
}

// reader is one stream. Its channel is closed when it ends: because the reader
// was too slow, or because the server stops.
type reader struct {
	events chan []byte
	whole  bool // has had its first picture
}

type feed struct {
	serial  string
	stop    context.CancelFunc
	wake    chan struct{} // holds at most one
	readers map[*reader]struct{}

	mu      sync.Mutex
	pending change
}

// change is what happened since the last event.
type change struct {
	from, to time.Time // readings were stored between these; zero: none
	lost     bool      // updates were missed: anything may have changed
	beat     bool      // it is time to say something
}

func newLive(h *Handler) *live {
	ctx, stop := context.WithCancel(context.Background())
	return &live{h: h, ctx: ctx, stop: stop, open: map[string]*feed{}}
}

func (l *live) close() {
	l.stop()
	l.mu.Lock()
	for serial, f := range l.open {
		for r := range f.readers {
			l.drop(f, r)
		}
		delete(l.open, serial)
	}
	l.mu.Unlock()
	l.feeds.Wait()
}

// join adds a reader to a gateway's feed. leave must be called once.
func (l *live) join(serial string) (r *reader, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams >= maxStreams || l.ctx.Err() != nil {
		return nil, nil, errFull
	}
	f := l.open[serial]
	if f == nil {
		ctx, stop := context.WithCancel(l.ctx)
		f = &feed{serial: serial, stop: stop, wake: make(chan struct{}, 1), readers: map[*reader]struct{}{}}
		l.open[serial] = f
		l.feeds.Go(func() { l.follow(ctx, f) })
		l.feeds.Go(func() { l.tick(ctx, f) })
		l.feeds.Go(func() { l.serve(ctx, f) })
	}
	r = &reader{events: make(chan []byte, backlog)}
	f.readers[r] = struct{}{}
	l.streams++
	f.nudge()
	return r, func() { l.leave(f, r) }, nil
}

func (l *live) leave(f *feed, r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams--
	l.drop(f, r)
	if len(f.readers) == 0 && l.open[f.serial] == f {
		f.stop()
		delete(l.open, f.serial)
	}
}

// drop ends a reader, once. The caller holds l.mu.
func (l *live) drop(f *feed, r *reader) {
	if _, ok := f.readers[r]; ok {
		delete(f.readers, r)
		close(r.events)
	}
}

func (f *feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (f *feed) note(c change) {
	f.mu.Lock()
	p := &f.pending
	if !c.to.IsZero() {
		if p.to.IsZero() || c.from.Before(p.from) {
			p.from = c.from
		}
		if c.to.After(p.to) {
			p.to = c.to
		}
	}
	p.lost, p.beat = p.lost || c.lost, p.beat || c.beat
	f.mu.Unlock()
	f.nudge()
}

func (f *feed) take() change {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.pending
	f.pending = change{}
	return c
}

// follow takes the store's updates as they come and never makes it wait.
func (l *live) follow(ctx context.Context, f *feed) {
	for ctx.Err() == nil {
		updates, cancel := l.h.store.Subscribe(f.serial)
		for open := true; open; {
			var u store.Update
			select {
			case u, open = <-updates:
				f.note(change{from: u.From, to: u.To, lost: !open})
			case <-ctx.Done():
				open = false
			}
		}
		cancel()
		if l.h.clock.Sleep(ctx, spacing) != nil { // before subscribing again
			return
		}
	}
}

func (l *live) tick(ctx context.Context, f *feed) {
	for n := 1; ; n++ {
		if n%leaseEvery == 1 {
			if err := l.h.store.Watch(ctx, f.serial, lease); err != nil && ctx.Err() == nil {
				l.h.log.Error("the gateway cannot be asked to report more often", "gateway", f.serial, "err", err)
			}
		}
		if l.h.clock.Sleep(ctx, lookEvery) != nil {
			return
		}
		f.note(change{beat: n%beatEvery == 0})
	}
}

// serve makes the events of a feed and hands them out.
func (l *live) serve(ctx context.Context, f *feed) {
	var before gatewayView
	failing := false
	for {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
		c := f.take()
		now, err := l.look(ctx, f.serial)
		if err != nil {
			if !failing && ctx.Err() == nil {
				l.h.log.Error("live values fail; trying again", "gateway", f.serial, "err", err)
			}
			failing = true
			f.mu.Lock()
			f.pending.lost = true // the next look, at the latest by the tick, gives all
			f.mu.Unlock()
		} else {
			failing = false
			if err := l.hand(f, before, now, c); err != nil {
				l.h.log.Error("a live event could not be made", "gateway", f.serial, "err", err)
			}
			before = now
		}
		if l.h.clock.Sleep(ctx, spacing) != nil {
			return
		}
	}
}

func (l *live) look(ctx context.Context, serial string) (gatewayView, error) {
	gw, err := l.h.store.Gateway(ctx, serial)
	if err != nil {
		return gatewayView{}, fmt.Errorf("looking up %s: %w", serial, err)
	}
	return l.h.view(ctx, gw)
}

// beat is a comment: a reader ignores it, and a line that died shows by it.
var beat = []byte(": still here\n\n")

// hand gives each reader what it needs: the whole picture to one that is new or
// when updates were missed, what changed to the others.
func (l *live) hand(f *feed, before, now gatewayView, c change) error {
	whole, err := event("values", picture(now))
	if err != nil {
		return err
	}
	var news []byte
	switch d, changed := difference(before, now, c); {
	case before.Serial != "" && !sameSeries(before, now):
		news, err = event("reload", struct{}{})
	case c.lost:
		news = whole
	case changed:
		news, err = event("values", d)
	}
	if err != nil {
		return err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range f.readers {
		send := [][]byte{news}
		if !r.whole {
			r.whole = true
			send = [][]byte{whole}
		}
		if c.beat {
			send = append(send, beat)
		}
		for _, e := range send {
			if e == nil {
				continue
			}
			select {
			case r.events <- e:
			default:
				l.drop(f, r)
			}
			if _, ok := f.readers[r]; !ok {
				break
			}
		}
	}
	return nil
}

// liveView is what an event carries.
type liveView struct {
	Now     time.Time            `json:"now"`
	Whole   bool                 `json:"whole"`
	From    time.Time            `json:"from,omitzero"`
	To      time.Time            `json:"to,omitzero"`
	Gateway liveGateway          `json:"gateway"`
	Pumps   []livePump           `json:"pumps"`
	Values  map[string]liveValue `json:"values"`
}

type liveGateway struct {
	summaryView
	OfflineText string  `json:"offline_text"`
	GapText     string  `json:"gap_text"`
	Alarms      []alarm `json:"alarms"`
}

type livePump struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Class      string    `json:"class"`
	Newest     time.Time `json:"newest,omitzero"`
	Unmeasured int       `json:"unmeasured"`
}

// liveValue is a value; what never changes comes with the first picture only.
type liveValue struct {
	*valueWords
	valueNow
}

func frame(v gatewayView) liveView {
	l := liveView{
		Now: v.Now, Gateway: liveGateway{v.summaryView, v.OfflineText, v.GapText, v.Alarms},
		Pumps: make([]livePump, 0, len(v.Pumps)), Values: map[string]liveValue{},
	}
	for _, p := range v.Pumps {
		l.Pumps = append(l.Pumps, livePump{p.ID, p.State, p.Class, p.Newest, p.Unmeasured})
	}
	return l
}

func picture(v gatewayView) liveView {
	l := frame(v)
	l.Whole = true
	for _, p := range v.Pumps {
		for _, value := range p.Values {
			words := value.valueWords
			l.Values[value.Key] = liveValue{&words, value.valueNow}
		}
	}
	return l
}

// difference is what changed; false when nothing did. A value of which only the
// time is new has not changed: the pump's newest time tells that it lives.
func difference(before, now gatewayView, c change) (liveView, bool) {
	l := frame(now)
	l.From, l.To = c.from, c.to
	old := map[string]valueNow{}
	for _, p := range before.Pumps {
		for _, v := range p.Values {
			old[v.Key] = v.valueNow
		}
	}
	for _, p := range now.Pumps {
		for _, v := range p.Values {
			if o, ok := old[v.Key]; !ok || o.Text != v.Text || o.Class != v.Class {
				l.Values[v.Key] = liveValue{valueNow: v.valueNow}
			}
		}
	}
	same := reflect.DeepEqual(l.Gateway, frame(before).Gateway) && reflect.DeepEqual(l.Pumps, frame(before).Pumps)
	return l, !same || len(l.Values) > 0 || !c.to.IsZero()
}

// sameSeries tells whether a page made for the one shows the other.
func sameSeries(a, b gatewayView) bool {
	if len(a.Pumps) != len(b.Pumps) {
		return false
	}
	for i := range a.Pumps {
		p, q := a.Pumps[i], b.Pumps[i]
		if p.ID != q.ID || p.Name != q.Name || len(p.Values) != len(q.Values) {
			return false
		}
		for j := range p.Values {
			if p.Values[j].Key != q.Values[j].Key || p.Values[j].valueWords != q.Values[j].valueWords {
				return false
			}
		}
	}
	return true
}

// apiLive is the stream of one reader.
func (h *Handler) apiLive(w http.ResponseWriter, r *http.Request, _ access.User) {
	serial := r.PathValue("serial")
	if _, err := h.store.Gateway(r.Context(), serial); errors.Is(err, store.ErrNoGateway) {
		problem.Write(w, http.StatusNotFound, noGateway)
		return
	} else if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	me, leave, err := h.live.join(serial)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		problem.Write(w, http.StatusServiceUnavailable, "Too many pages are open on live values. Try again in half a minute.")
		return
	}
	defer leave()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold events back
	control := http.NewResponseController(w)
	write := func(b []byte) bool {
		// Not every connection knows deadlines; then the reader's own end is what ends it.
		if err := control.SetWriteDeadline(h.clock.Now().Add(patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		if _, err := w.Write(b); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !write([]byte("retry: 2000\n\n")) {
		return
	}
	for {
		select {
		case e, ok := <-me.events:
			if !ok || !write(e) {
				return
			}
			if &e[0] != &beat[0] {
				continue
			}
			if still, err := h.sessions.Still(r.Context()); err != nil {
				h.logFailure(r, err)
				return
			} else if !still {
				write([]byte("event: signed-out\ndata: {}\n\n"))
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
