package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"penstock/fieldbus/pumpsim"
)

func init() {
	Register("faults", "each fault of the virtual pumps alone and all together: wrong and missing values, pumps not asked (about 3 min)", faultsBench)
}

// Each fault alone is played for ten minutes at each rate, all together for hours.
const (
	aloneFor    = 10 * time.Minute
	togetherFor = 2 * time.Hour
	faultPumps  = 3
)

var (
	aloneRates    = []float64{0.01, 0.05, 0.2}
	togetherRates = []float64{0.01, 0.03}
)

// faultKind is a fault as the bench plays it.
type faultKind struct {
	name   string // of the rule
	amount string // as in a rule; empty: the default
	lasts  time.Duration
	always bool // it is a property of the device and strikes every request
	only   pumpsim.Protocol
	alone  bool // not among those that come all together
}

// faultKinds are the kinds of the virtual pumps. The rate of one that lasts is the
// share of the time that it takes; of the others it is the share of requests.
// Random bytes that are overwritten fit the checksum one time in 65,536.
var faultKinds = []faultKind{
	{name: "late", amount: "300ms"},
	{name: "late", amount: "300ms-1400ms", alone: true},
	{name: "repeat"},
	{name: "repeat", amount: "50ms-500ms", alone: true},
	{name: "silence"},
	{name: "noise"},
	{name: "flip"},
	{name: "burst"},
	{name: "overwrite"},
	{name: "split"},
	{name: "cut"},
	{name: "glue"},
	{name: "foreign"},
	{name: "wrong"},
	{name: "exception", amount: "6"},
	{name: "exception", amount: "1", alone: true},
	{name: "exception", amount: "2", alone: true},
	{name: "exception", amount: "3", alone: true},
	{name: "echo"},
	{name: "old"},
	{name: "again"},
	{name: "again", amount: "4", alone: true},
	{name: "ready", only: pumpsim.GENIbus},
	{name: "babble", lasts: time.Second},
	{name: "unplug", lasts: time.Second, alone: true},
	{name: "unplug", lasts: 40 * time.Second, alone: true},
	{name: "refuse1", lasts: 12 * time.Second, alone: true},
	{name: "refuse2", lasts: 12 * time.Second, alone: true},
	{name: "refuse3", lasts: 12 * time.Second, alone: true},
	{name: "exchange", lasts: 20 * time.Second, alone: true},
	{name: "pause", amount: "15ms", always: true, alone: true},
	{name: "pause", amount: "50ms", always: true, alone: true},
	{name: "pause", amount: "200ms", always: true, alone: true},
	{name: "nofunction", amount: "3", always: true, only: pumpsim.Modbus, alone: true},
	{name: "nofunction", amount: "4", always: true, only: pumpsim.Modbus, alone: true},
}

// rule is the fault as a rule, at a rate, on a line where a device is asked so many
// times a second.
func (k faultKind) rule(rate, perSecond float64) string {
	amount := k.amount
	if k.lasts > 0 {
		amount = k.lasts.String()
		rate = min(rate/(1-rate)/(k.lasts.Seconds()*perSecond), 1)
	}
	text := fmt.Sprintf("%s=%g", k.name, rate)
	if amount != "" {
		text += ":" + amount
	}
	return text
}

func (k faultKind) rates() []float64 {
	if k.always {
		return []float64{1}
	}
	return aloneRates
}

func faultsBench(ctx context.Context, emit func(Metric)) error {
	for _, protocol := range protocols {
		calm, err := calmly(ctx, protocol, faultPumps)
		if err != nil {
			return err
		}
		for _, k := range faultKinds {
			if k.only != "" && k.only != protocol {
				continue
			}
			for _, rate := range k.rates() {
				if err := calm.strike(ctx, emit, k.name, k.amountText(), rate, k.rule(rate, calm.perSecond(k)), aloneFor); err != nil {
					return err
				}
			}
		}
		for _, rate := range togetherRates {
			if err := calm.strike(ctx, emit, "all", "", rate, calm.together(rate), togetherFor); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k faultKind) amountText() string {
	if k.lasts > 0 {
		return k.lasts.String()
	}
	return k.amount
}

// together is every kind that strikes single answers, each at the rate.
func (c *calm) together(rate float64) string {
	var rules []string
	for _, k := range faultKinds {
		if !k.alone && (k.only == "" || k.only == c.protocol) {
			rules = append(rules, k.rule(rate, c.perSecond(k)))
		}
	}
	return strings.Join(rules, ",")
}

// calm is what a line without faults does, which those with faults are compared with.
type calm struct {
	protocol pumpsim.Protocol
	pumps    int
	requests float64           // a second, to all pumps
	without  map[seriesOf]bool // what the pumps do not have
}

// calmly polls a line without faults for two minutes.
func calmly(ctx context.Context, protocol pumpsim.Protocol, pumps int) (*calm, error) {
	p, err := newPolling(protocol, pumps, "", 1)
	if err != nil {
		return nil, err
	}
	const long = 2 * time.Minute
	if err := p.run(ctx, long, false, false); err != nil {
		return nil, err
	}
	c := &calm{protocol: protocol, pumps: pumps, requests: float64(p.judge.requests) / long.Seconds(), without: map[seriesOf]bool{}}
	for _, g := range p.judge.groups {
		for _, s := range g.Series {
			if p.judge.pumps[s.Pump].values[s.Point] == 0 {
				c.without[seriesOf{s.Pump, s.Point}] = true
			}
		}
	}
	if p.judge.wrong > 0 {
		return nil, fmt.Errorf("the judge finds %d wrong values on a line without faults: %s", p.judge.wrong, strings.Join(p.judge.examples, "; "))
	}
	return c, nil
}

// perSecond is how often a fault is drawn a second: one that takes the whole line
// with each request, another with those to its device.
func (c *calm) perSecond(k faultKind) float64 {
	if slices.Contains([]string{"babble", "unplug"}, k.name) {
		return c.requests
	}
	return c.requests / float64(c.pumps)
}

// line is a line like the calm one, with faults.
func (c *calm) line(faults string, seed int64) (*polling, error) {
	p, err := newPolling(c.protocol, c.pumps, faults, seed)
	if err == nil {
		p.judge.without = c.without
	}
	return p, err
}

// strike polls a line with faults for a time and emits what became of it.
func (c *calm) strike(ctx context.Context, emit func(Metric), name, amount string, rate float64, faults string, d time.Duration) error {
	p, err := c.line(faults, 1)
	if err != nil {
		return err
	}
	if err := p.run(ctx, d, false, false); err != nil {
		return err
	}
	j := &p.judge
	keys := map[string]any{"protocol": string(c.protocol), "fault": name, "rate": rate, "pumps": c.pumps, "minutes": d.Minutes(), "requests": j.requests}
	if amount != "" {
		keys["amount"] = amount
	}
	emit(Metric{"wrong_values", float64(j.wrong), "1", keys})
	emit(Metric{"missing_share", j.missingShare(), "1", keys})
	emit(Metric{"longest_unasked_periods", j.unasked(), "1", keys})
	return nil
}
