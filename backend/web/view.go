package web

import (
	"context"
	"fmt"
	"slices"
	"time"

	"penstock/backend/store"
	"penstock/internal/telemetry"
)

// What a page and the JSON interface show is the same and is made here, once.

// summaryView is a gateway as it stands in the list.
type summaryView struct {
	Serial      string    `json:"serial"`
	Model       string    `json:"model,omitempty"`
	Board       string    `json:"board,omitempty"`
	Online      bool      `json:"online"`
	State       string    `json:"state"`
	Class       string    `json:"class"` // good, warn, bad or idle: how the state looks
	Since       time.Time `json:"since,omitzero"`
	SinceWord   string    `json:"since_word"`
	LastReading time.Time `json:"last_reading,omitzero"`
	PumpCount   int       `json:"pump_count"`
	Attention   string    `json:"attention"` // what somebody should look at, or ""
	// AheadText says that readings are dated beyond the present, or "".
	AheadText string `json:"ahead_text"`
}

// gatewayView is one gateway with its pumps.
type gatewayView struct {
	summaryView
	Now         time.Time  `json:"now"`
	OfflineText string     `json:"offline_text"`
	GapText     string     `json:"gap_text"`
	Gaps        []gapView  `json:"gaps"`
	Alarms      []alarm    `json:"alarms"` // the newest first
	Pumps       []pumpView `json:"pumps"`
}

type gapView struct {
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Reason     string    `json:"reason"`
	ReasonText string    `json:"reason_text"`
}

type alarm struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

type pumpView struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	Family     string      `json:"family"`
	Bus        string      `json:"bus"`
	Address    int         `json:"address"`
	State      string      `json:"state"`
	Class      string      `json:"class"`
	Newest     time.Time   `json:"newest,omitzero"` // time of its newest reading
	Unmeasured int         `json:"unmeasured"`      // values that it says it does not have
	Values     []valueView `json:"values"`

	Tiles    []valueView   `json:"-"` // the few in large figures
	Sections []sectionView `json:"-"` // the others
}

type sectionView struct {
	Name   string
	Values []valueView
}

// valueView is the newest value of one point.
type valueView struct {
	Key string `json:"-"` // "pump/point"
	valueWords
	valueNow
}

// valueWords is what a point is, valueNow how it is.
type valueWords struct {
	Point    string `json:"point"`
	Label    string `json:"label"`
	Meaning  string `json:"meaning,omitempty"`
	Unit     string `json:"unit"` // as people write it
	UCUM     string `json:"ucum"`
	Decimals int    `json:"decimals"`
	Step     bool   `json:"step"` // a code: a chart of it has steps, not slopes
}

type valueNow struct {
	Text    string    `json:"text"`            // without its unit
	Value   *float64  `json:"value,omitempty"` // where there is one
	Quality string    `json:"quality"`
	Class   string    `json:"class"` // the quality as one word
	Note    string    `json:"note"`  // what to know of it, or ""
	Time    time.Time `json:"time,omitzero"`
}

// mostAlarms is how many alarms a page shows. Clones make one for each name that
// two of their records share; the newest say it all.
const mostAlarms = 5

// mostGaps is how many gaps a page lists; its text counts all.
const mostGaps = 500

// recent is how far back a page speaks of gaps.
const recent = 24 * time.Hour

// view makes the picture of one gateway.
func (h *Handler) view(ctx context.Context, gw store.Gateway) (gatewayView, error) {
	now := h.clock.Now()
	catalogue, err := h.store.Catalogue(ctx, gw.Serial)
	if err != nil {
		return gatewayView{}, fmt.Errorf("the catalogue of %s: %w", gw.Serial, err)
	}
	latest, err := h.store.Latest(ctx, gw.Serial)
	if err != nil {
		return gatewayView{}, fmt.Errorf("the latest values of %s: %w", gw.Serial, err)
	}
	gaps, err := h.store.Gaps(ctx, gw.Serial, now.Add(-recent), now)
	if err != nil {
		return gatewayView{}, fmt.Errorf("the gaps of %s: %w", gw.Serial, err)
	}
	alarms, err := h.store.Alarms(ctx, gw.Serial)
	if err != nil {
		return gatewayView{}, fmt.Errorf("the alarms of %s: %w", gw.Serial, err)
	}
	v := gatewayView{summaryView: summarise(gw), Now: now, Gaps: gapViews(gaps[max(0, len(gaps)-mostGaps):]), GapText: gapText(gaps, now.Add(-recent), now)}
	for _, a := range slices.Backward(alarms) {
		if v.Alarms = append(v.Alarms, alarm{a.Time, a.Text}); len(v.Alarms) == mostAlarms {
			break
		}
	}
	if !gw.Online {
		v.OfflineText = offlineText(gw)
	}
	v.Pumps = pumpViews(catalogue, latest, gw.Online)
	v.PumpCount = len(v.Pumps)
	if gw.Ahead.After(now.Add(store.Tolerance)) {
		v.AheadText = fmt.Sprintf("Some readings of this gateway are dated ahead of the present, up to %s UTC. They are drawn there, and the newest values leave them out. Check the gateway's clock.",
			gw.Ahead.UTC().Format("2006-01-02 15:04"))
	}
	v.Attention = attention(v)
	return v, nil
}

func summarise(gw store.Gateway) summaryView {
	s := summaryView{Serial: gw.Serial, Model: gw.Model, Board: gw.Board, Online: gw.Online, Since: gw.Since, LastReading: gw.LastReading}
	switch {
	case !gw.Revoked.IsZero():
		s.State, s.Class, s.SinceWord, s.Since = "Revoked", "bad", "Revoked since", gw.Revoked
	case gw.Online:
		s.State, s.Class, s.SinceWord = "Online", "good", "Online since"
	case gw.Since.IsZero():
		s.State, s.Class, s.SinceWord = "Never seen", "idle", "First contact"
	default:
		s.State, s.Class, s.SinceWord = "Offline", "bad", "Offline since"
	}
	return s
}

func offlineText(gw store.Gateway) string {
	if gw.Since.IsZero() {
		return "This gateway has not connected yet."
	}
	return "What stands here are its last values. Nothing is lost: the gateway keeps its readings and sends them when it is back."
}

func gapViews(gaps []telemetry.Gap) []gapView {
	views := make([]gapView, 0, len(gaps))
	for _, g := range gaps {
		views = append(views, gapView{From: g.From, To: g.To, Reason: g.Reason.String(), ReasonText: "lost: " + g.Reason.String()})
	}
	return views
}

// gapText says how much of the time from since to now is in gaps, the oldest of which
// come first. Time that lies in several counts once.
func gapText(gaps []telemetry.Gap, since, now time.Time) string {
	if len(gaps) == 0 {
		return "none"
	}
	var total time.Duration
	counted := since
	reasons := map[string]bool{}
	var words []string
	for _, g := range gaps {
		from, to := g.From, g.To
		if from.Before(counted) {
			from = counted
		}
		if to.After(now) {
			to = now
		}
		if to.After(from) {
			total += to.Sub(from)
			counted = to
		}
		if r := g.Reason.String(); !reasons[r] {
			reasons[r] = true
			words = append(words, r)
		}
	}
	return fmt.Sprintf("%d, %s in all (%s)", len(gaps), roughly(total), join(words))
}

// attention names what somebody should look at in a gateway, the worst first.
func attention(v gatewayView) string {
	var bad, warn []string
	for _, p := range v.Pumps {
		switch p.Class {
		case "bad":
			bad = append(bad, p.Name+": "+p.State)
		case "warn":
			warn = append(warn, p.Name+": "+p.State)
		}
	}
	words := append(bad, warn...)
	if v.AheadText != "" {
		words = append(words, "readings dated ahead of the present")
	}
	if len(v.Alarms) > 0 {
		words = append(words, v.Alarms[0].Text)
	}
	if len(v.Gaps) > 0 {
		words = append(words, "Gaps in the last 24 h: "+v.GapText)
	}
	return join(words)
}

type key struct{ pump, point string }

func pumpViews(c telemetry.Catalogue, latest []store.Value, online bool) []pumpView {
	values := make(map[key]store.Value, len(latest))
	for _, v := range latest {
		values[key{v.Pump, v.Point}] = v
	}
	pumps := make([]pumpView, len(c.Pumps))
	index := make(map[string]int, len(c.Pumps))
	for i, p := range c.Pumps {
		name := p.Name
		if name == "" {
			name = p.ID
		}
		pumps[i] = pumpView{ID: p.ID, Name: name, Family: p.Family, Bus: p.Bus, Address: p.Address}
		index[p.ID] = i
	}
	for _, g := range c.Groups {
		for _, s := range g.Series {
			i, ok := index[s.Pump]
			if !ok {
				continue
			}
			value, have := values[key{s.Pump, s.Point}]
			p := &pumps[i]
			p.Values = append(p.Values, viewOf(s, value, have))
			if have && value.Time.After(p.Newest) {
				p.Newest = value.Time
			}
			if have && value.Quality == telemetry.NotAvailable {
				p.Unmeasured++
			}
		}
	}
	for i := range pumps {
		arrange(&pumps[i])
		pumps[i].State, pumps[i].Class = stateOf(pumps[i].ID, values, online)
	}
	return pumps
}

func viewOf(s telemetry.Series, value store.Value, have bool) valueView {
	v := valueView{Key: s.Pump + "/" + s.Point, valueWords: valueWords{
		Point: s.Point, Label: label(s.Point), Unit: telemetry.UnitText(s.Unit), UCUM: s.Unit,
		Decimals: decimals(s), Step: steps(s),
	}}
	if p, ok := telemetry.LookupPoint(s.Point); ok {
		v.Meaning = p.Meaning
	}
	if !have {
		v.Text, v.Class, v.Quality, v.Note = "–", "none", "none", "no reading yet"
		return v
	}
	// The reading means what its own catalogue says, whatever the newest one does.
	s = value.Series
	v.Unit, v.UCUM, v.Decimals = telemetry.UnitText(s.Unit), s.Unit, decimals(s)
	v.Time, v.Quality = value.Time, value.Quality.String()
	switch value.Quality {
	case telemetry.Good:
		v.Class = "good"
	case telemetry.Stale:
		v.Class, v.Note = "stale", "old value: pump not heard"
	case telemetry.Doubtful:
		v.Class, v.Note = "stale", "doubtful: the counter fell"
	case telemetry.NotAvailable:
		v.Text, v.Class, v.Note = "–", "not_available", "not available"
		return v
	default:
		v.Text, v.Class, v.Note = "–", "missing", "no answer"
		return v
	}
	if !s.Scale.Known() && s.Enum == "" {
		v.Text, v.Class, v.Note = "–", "missing", fmt.Sprintf("scale not known (raw %d)", value.Raw)
		return v
	}
	v.Text = valueText(s, value.Raw, v.Decimals)
	f := s.Scale.Value(value.Raw)
	v.Value = &f
	return v
}

// steps tells whether a point jumps between states rather than moves.
func steps(s telemetry.Series) bool {
	p, ok := telemetry.LookupPoint(s.Point)
	return s.Enum != "" || ok && (p.Kind == telemetry.Code || p.Kind == telemetry.Flag || p.Kind == telemetry.Bits)
}

func valueText(s telemetry.Series, raw int64, places int) string {
	if s.Enum != "" {
		return telemetry.EnumText(s.Enum, raw)
	}
	if p, ok := telemetry.LookupPoint(s.Point); ok && p.Kind == telemetry.Bits {
		return fmt.Sprintf("%b", raw)
	}
	return number(s.Scale, raw, places)
}

// arrange sorts a pump's values into tiles and sections.
func arrange(p *pumpView) {
	taken := map[string]bool{}
	for _, point := range headlines {
		i := slices.IndexFunc(p.Values, func(v valueView) bool { return v.Point == point })
		if i >= 0 && len(p.Tiles) < maxHeadlines && p.Values[i].Class != "not_available" {
			p.Tiles = append(p.Tiles, p.Values[i])
			taken[point] = true
		}
	}
	for _, name := range sections {
		var list []valueView
		for _, v := range p.Values {
			enum := ""
			if v.Step {
				enum = "step"
			}
			if !taken[v.Point] && section(v.Point, v.UCUM, enum) == name {
				list = append(list, v)
			}
		}
		if len(list) > 0 {
			p.Sections = append(p.Sections, sectionView{name, list})
		}
	}
}

// stateOf says in a few words how a pump is, the worst first.
func stateOf(pump string, values map[key]store.Value, online bool) (text, class string) {
	raw := func(point string) (int64, bool) {
		v, ok := values[key{pump, point}]
		return v.Raw, ok && v.Quality.HasValue()
	}
	asked, heard, stale := false, false, false
	for k, v := range values {
		if k.pump == pump {
			asked = true
			heard = heard || v.Quality != telemetry.Missing
			stale = stale || v.Quality == telemetry.Stale
		}
	}
	code := func(word, point string) string {
		if c, ok := raw(point); ok && c != 0 {
			return word + ": " + telemetry.EnumText("alarm_code", c)
		}
		return word
	}
	flagged := func(flag, point string) bool {
		f, ok := raw(flag)
		c, okCode := raw(point)
		return ok && f != 0 || okCode && c != 0
	}
	switch {
	case !heard && asked:
		text, class = "No answer", "bad"
	case !heard:
		text, class = "No reading yet", "idle"
	case flagged("alarm", "alarm_code"):
		text, class = code("Alarm", "alarm_code"), "bad"
	case stale:
		text, class = "Module has lost its pump", "warn"
	case flagged("warning", "warning_code"):
		text, class = code("Warning", "warning_code"), "warn"
	default:
		text, class = "Answers", "good"
		if r, ok := raw("running"); ok {
			text = "Running"
			if r == 0 {
				text, class = "Stopped", "idle"
			}
		}
	}
	if !online && heard {
		return "Last known: " + text, "idle"
	}
	return text, class
}
