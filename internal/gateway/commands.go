package gateway

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"penstock/fieldbus/poll"
	"penstock/internal/disk"
	"penstock/internal/telemetry"
	"penstock/uplink/command"
	"penstock/uplink/queue"
	"penstock/uplink/wire"
)

// How often a block is sealed while somebody looks.
const (
	watchedEvery        = time.Second
	watchedEveryMetered = 5 * time.Second
)

func (g *Gateway) openCommands() (err error) {
	g.commands, err = command.New(command.Config{
		FS:      disk.OS,
		Dir:     filepath.Join(g.opts.State, "state"),
		Act:     g.act,
		Report:  g.report,
		Trusted: g.clockTrusted,
		Clock:   g.time,
		Log:     g.log.With("part", "commands"),
	})
	return err
}

// down takes what the endpoint sends.
func (g *Gateway) down(message []byte) {
	d, err := wire.ParseDown(message)
	if err != nil {
		g.log.Warn("the endpoint sent what cannot be read; it is passed over", "err", err)
		return
	}
	if d.Watch > 0 {
		every := watchedEvery
		if g.metered() {
			every = watchedEveryMetered
		}
		g.recorder.watch(d.Watch, every)
	}
	if d.NewEpoch != (wire.Epoch{}) && d.NewEpoch == wire.Epoch(g.queue.Epoch()) {
		g.log.Error("the endpoint has other content under our names: this disk was cloned or restored; a new epoch begins", "epoch", d.NewEpoch)
		if err := g.queue.NewEpoch(); err != nil {
			g.log.Error("a new epoch could not be begun", "err", err)
		}
	}
	if d.TellCatalogue {
		g.recorder.recall()
	}
	if d.Command != nil {
		g.commands.Take(*d.Command)
	}
}

// act carries a command out on the bus that its pump is on.
func (g *Gateway) act(ctx context.Context, c telemetry.Command) telemetry.CommandResult {
	for _, bus := range g.buses {
		if !slices.ContainsFunc(bus.Pumps(), func(p telemetry.Pump) bool { return p.ID == c.Pump }) {
			continue
		}
		r, err := bus.Write(ctx, poll.Command{Pump: c.Pump, Name: c.Name, Value: c.Value})
		if err != nil {
			return telemetry.CommandResult{Outcome: outcome(err), Text: err.Error()}
		}
		return telemetry.CommandResult{Outcome: telemetry.Done, Raw: r.Raw, Text: r.Text}
	}
	return telemetry.CommandResult{Outcome: telemetry.Refused, Text: fmt.Sprintf("this gateway has no pump %q", c.Pump)}
}

// Command carries out what somebody who stands beside the gateway asks for.
func (g *Gateway) Command(ctx context.Context, pump, name, value string) (string, error) {
	g.log.Info("a command by the local socket", "pump", pump, "command", name, "value", value)
	r := g.act(ctx, telemetry.Command{Pump: pump, Name: name, Value: value})
	if r.Outcome != telemetry.Done {
		return "", errors.New(r.Text)
	}
	return r.Text, nil
}

// outcome is the cloud's word for what became of a command on the bus.
func outcome(err error) telemetry.Outcome {
	switch {
	case errors.Is(err, poll.ErrRefused):
		return telemetry.Refused
	case errors.Is(err, poll.ErrNotFollowed):
		return telemetry.NotFollowed
	case errors.Is(err, poll.ErrNoAnswer):
		return telemetry.NoAnswer
	}
	return telemetry.OutcomeUnknown // it was cut short: the pump may or may not have been told
}

// report puts a result into the urgent lane.
func (g *Gateway) report(r telemetry.CommandResult) error {
	payload := new(wire.Packer).AppendPayload(nil, wire.KindResult, wire.AppendResult(nil, r))
	return g.queue.Append(queue.Urgent, r.Time, payload)
}
