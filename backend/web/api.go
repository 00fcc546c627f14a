package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"penstock/backend/access"
	"penstock/backend/problem"
	"penstock/backend/store"
	"penstock/internal/telemetry"
)

func (h *Handler) apiFailed(w http.ResponseWriter, r *http.Request, err error) {
	h.logFailure(r, err)
	problem.Write(w, http.StatusInternalServerError, "The server failed; its log says why. Try again in a minute.")
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the browser went away
}

func (h *Handler) summaries(ctx context.Context) ([]summaryView, error) {
	gws, err := h.store.Gateways(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the gateways: %w", err)
	}
	list := make([]summaryView, 0, len(gws))
	for _, gw := range gws {
		v, err := h.view(ctx, gw)
		if err != nil {
			return nil, err
		}
		list = append(list, v.summaryView)
	}
	return list, nil
}

func (h *Handler) apiGateways(w http.ResponseWriter, r *http.Request, _ access.User) {
	list, err := h.summaries(r.Context())
	if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	answer(w, struct {
		Now      time.Time     `json:"now"`
		Count    string        `json:"count"`
		Gateways []summaryView `json:"gateways"`
	}{h.clock.Now(), count(list), list})
}

const noGateway = "There is no gateway of this serial number."

func (h *Handler) apiGateway(w http.ResponseWriter, r *http.Request, _ access.User) {
	v, err := h.gateway(r)
	switch {
	case errors.Is(err, store.ErrNoGateway):
		problem.Write(w, http.StatusNotFound, noGateway)
	case err != nil:
		h.apiFailed(w, r, err)
	default:
		answer(w, v)
	}
}

// longest is how much one request may ask for: a day at one sample a second is
// about a megabyte.
const longest = 24*time.Hour + time.Minute

type rangeView struct {
	Pump     string            `json:"pump"`
	Point    string            `json:"point"`
	Label    string            `json:"label"`
	Unit     string            `json:"unit"`
	UCUM     string            `json:"ucum"`
	Decimals int               `json:"decimals"`
	Step     bool              `json:"step"`
	Period   int64             `json:"period_ms"`
	From     time.Time         `json:"from"`
	To       time.Time         `json:"to"`
	T        []int64           `json:"t"`
	V        column            `json:"v"`
	Q        []int             `json:"q"`
	Texts    map[string]string `json:"texts"` // of the codes in v
	Gaps     []gapView         `json:"gaps"`
	// Unsure is how far times in t may be off, at worst: a gateway did not know the time.
	Unsure int64 `json:"unsure_ms,omitempty"`
	// Unscaled counts the readings whose value in this unit is not known: their
	// catalogue has no scale for them, or another unit. They are null in v.
	Unscaled int `json:"unscaled,omitempty"`
}

// column writes numbers with just the digits that they are shown with.
type column struct {
	values []*float64
	places int
}

func (c column) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range c.values {
		if i > 0 {
			b = append(b, ',')
		}
		if v == nil {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, *v, 'f', c.places, 64)
		}
	}
	return append(b, ']'), nil
}

func (h *Handler) apiRange(w http.ResponseWriter, r *http.Request, _ access.User) {
	q := r.URL.Query()
	from, errFrom := time.Parse(time.RFC3339Nano, q.Get("from"))
	to, errTo := time.Parse(time.RFC3339Nano, q.Get("to"))
	switch {
	case errFrom != nil || errTo != nil:
		problem.Write(w, http.StatusBadRequest, "from and to must be times of RFC 3339, such as 2026-11-24T10:00:00Z.")
		return
	case to.Before(from) || to.Sub(from) > longest:
		problem.Write(w, http.StatusBadRequest, "to must not be before from, nor more than a day after it.")
		return
	}
	serial, pump, point := r.PathValue("serial"), q.Get("pump"), q.Get("point")
	if _, err := h.store.Gateway(r.Context(), serial); errors.Is(err, store.ErrNoGateway) {
		problem.Write(w, http.StatusNotFound, noGateway)
		return
	} else if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	catalogue, err := h.store.Catalogue(r.Context(), serial)
	if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	series, period, ok := lookup(catalogue, pump, point)
	if !ok {
		problem.Write(w, http.StatusNotFound, "This gateway has no such pump, or the pump has no such point.")
		return
	}
	samples, err := h.store.Range(r.Context(), serial, pump, point, from, to)
	if errors.Is(err, store.ErrTooMuch) {
		problem.Write(w, http.StatusUnprocessableEntity, "This time holds more readings than one look may take. Ask for less time.")
		return
	}
	if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	gaps, err := h.store.Gaps(r.Context(), serial, from, to)
	if err != nil {
		h.apiFailed(w, r, err)
		return
	}
	v := columns(series, samples)
	v.Period, v.From, v.To, v.Gaps = period.Milliseconds(), from, to, gapViews(gaps)
	answer(w, v)
}

func lookup(c telemetry.Catalogue, pump, point string) (telemetry.Series, time.Duration, bool) {
	for _, g := range c.Groups {
		for _, s := range g.Series {
			if s.Pump == pump && s.Point == point {
				return s, g.Period, true
			}
		}
	}
	return telemetry.Series{}, 0, false
}

func columns(s telemetry.Series, samples []store.Sample) rangeView {
	places := decimals(s)
	v := rangeView{
		Pump: s.Pump, Point: s.Point, Label: label(s.Point), Unit: telemetry.UnitText(s.Unit), UCUM: s.Unit,
		Decimals: places, Step: steps(s), Texts: map[string]string{},
		T: make([]int64, 0, len(samples)), Q: make([]int, 0, len(samples)),
		V: column{make([]*float64, 0, len(samples)), places},
	}
	for _, sample := range samples {
		if has(sample) && scaled(s, sample) {
			places = max(places, decimals(*sample.Series))
		}
	}
	v.Decimals, v.V.places = places, places
	for _, sample := range samples {
		var number *float64
		switch {
		case !has(sample):
		case !scaled(s, sample):
			v.Unscaled++
		default:
			f := sample.Series.Scale.Value(sample.Raw)
			if sample.Series.Enum != "" && !sample.Series.Scale.Known() {
				f = float64(sample.Raw)
			}
			number = &f
			if v.Step {
				v.Texts[strconv.FormatFloat(f, 'f', places, 64)] = valueText(*sample.Series, sample.Raw, places)
			}
		}
		v.T = append(v.T, sample.Time.UnixMilli())
		v.V.values = append(v.V.values, number)
		v.Q = append(v.Q, int(sample.Quality))
		v.Unsure = max(v.Unsure, sample.Unsure.Milliseconds())
	}
	return v
}

func has(sample store.Sample) bool {
	return sample.Quality.HasValue()
}

// scaled tells whether a sample has a value in the unit of s, by its own catalogue.
func scaled(s telemetry.Series, sample store.Sample) bool {
	return sample.Series.Unit == s.Unit && sample.Series.Enum == s.Enum && (sample.Series.Scale.Known() || s.Enum != "")
}

// event is one server-sent event.
func event(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: ", name)
	if err := json.NewEncoder(&b).Encode(data); err != nil { // one line, ending in \n
		return nil, fmt.Errorf("encoding the event %s: %w", name, err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
