package chaos

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// operator does what operators do, at random, until its context ends. mend resumes what it leaves paused.
type operator struct {
	w      *world
	rng    *rand.Rand
	paused map[string]func() // by destination of the plain and the ordered source
}

// pausable are the destinations that are paused, with their sources.
var pausable = []struct{ source, destination string }{{plainSource, "steady"}, {plainSource, "flaky"}, {orderedSource, "ordered"}}

func (o *operator) run(ctx context.Context) {
	operations := []struct {
		share int
		do    func(context.Context, *gateway)
	}{
		{15, o.pause},
		{15, o.resume},
		{30, o.replay},
		{10, o.redrive},
		{5, o.discard},
		{25, o.look},
	}
	for ctx.Err() == nil {
		at := o.rng.IntN(100)
		for _, operation := range operations {
			if at -= operation.share; at < 0 {
				operation.do(ctx, o.w.anyGateway(o.rng))
				break
			}
		}
		wait(ctx, time.Duration(10+o.rng.IntN(90))*time.Millisecond)
	}
}

// ask sends a request, records its status in the ledger, and reports whether it succeeded.
func (o *operator) ask(ctx context.Context, g *gateway, name, method, path string, body, out any) bool {
	begun := time.Now()
	status, err := g.call(ctx, method, path, body, out)
	if ctx.Err() != nil {
		return false
	}
	o.w.ledger.operate(name, status)
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		o.w.log("gateway %d: %s: %v", g.n, name, err)
		if !o.w.ledger.during(g.n, begun.Add(-2*time.Second), time.Now()) {
			o.w.ledger.violates("refused", "gateway %d: %s: %v", g.n, name, err)
		}
	}
	return err == nil
}

func (o *operator) pause(ctx context.Context, g *gateway) {
	d := pausable[o.rng.IntN(len(pausable))]
	if o.paused[d.destination] == nil && o.ask(ctx, g, "pause", http.MethodPost, api.PausePath(d.source, d.destination), nil, nil) {
		o.paused[d.destination] = o.w.ledger.paused(d.destination)
	}
}

func (o *operator) resume(ctx context.Context, g *gateway) {
	d := pausable[o.rng.IntN(len(pausable))]
	if over := o.paused[d.destination]; over != nil {
		over()
		delete(o.paused, d.destination)
	}
	o.ask(ctx, g, "resume", http.MethodPost, api.ResumePath(d.source, d.destination), nil, nil)
}

// replay replays one delivery that a consumer got.
func (o *operator) replay(ctx context.Context, g *gateway) {
	d, ok := o.w.ledger.anyDelivery(o.rng, "steady", "flaky", "ordered")
	if !ok {
		return
	}
	var answer api.Replayed
	if o.ask(ctx, g, "replay", http.MethodPost, api.ReplayPath(d.event), api.ReplayEventRequest{Destinations: []string{d.consumer}}, &answer) && answer.Replayed == 1 {
		o.w.ledger.replayed(d)
	}
}

func (o *operator) redrive(ctx context.Context, g *gateway) {
	o.ask(ctx, g, "redrive", http.MethodPost, api.PathRedrive, api.RedriveRequest{Selection: api.Selection{Source: doomedSource}}, nil)
}

func (o *operator) discard(ctx context.Context, g *gateway) {
	o.ask(ctx, g, "discard", http.MethodPost, api.PathDiscard, api.DiscardRequest{Selection: api.Selection{Source: rubbishSource}}, nil)
}

// look lists one thing or another.
func (o *operator) look(ctx context.Context, g *gateway) {
	paths := []string{
		api.PathStatus, api.PathEvents + "?limit=50", api.PathEvents + "?source=ordered&state=pending", api.PathEvents + "?destination=flaky&limit=20",
		api.PathEvents + "?state=dead", api.PathDeadLetters, api.PathDeadLetters + "?source=doomed", api.PathRejections, api.PathTasks, "/metrics",
	}
	o.ask(ctx, g, "look", http.MethodGet, paths[o.rng.IntN(len(paths))], nil, nil)
}

// reload reloads every second: mostly something that is right, and else something that must be refused.
func (w *world) reload(ctx context.Context, rng *rand.Rand) {
	for {
		wait(ctx, time.Second)
		if ctx.Err() != nil {
			return
		}
		if rng.IntN(4) == 0 {
			g := w.anyGateway(rng)
			broken := w.variant
			broken.broken = true
			status, err := g.call(ctx, http.MethodPost, "/load", w.config(g, broken), nil)
			w.ledger.operate("broken reload", status)
			if err == nil {
				w.ledger.violates("refused", "gateway %d takes a configuration that is wrong", g.n)
			}
			continue
		}
		w.variant = variant{
			slots: 4 + rng.IntN(slots-3), breaker: []string{"off", "3 200ms", "8 500ms"}[rng.IntN(3)],
			moved: []string{"old", "new"}[rng.IntN(2)],
		}
		for _, g := range w.gateways {
			begun := time.Now()
			status, err := g.call(ctx, http.MethodPost, "/load", w.config(g, w.variant), nil)
			if ctx.Err() != nil {
				return
			}
			w.ledger.operate("reload", status)
			if err != nil && !w.ledger.during(g.n, begun.Add(-2*time.Second), time.Now()) {
				w.ledger.violates("refused", "gateway %d does not reload: %v", g.n, err)
			}
			if err := g.configure(w.config(g, w.variant)); err != nil {
				w.ledger.violates("refused", "%v", err)
			}
		}
		w.reassign(ctx, w.anyGateway(rng))
	}
}

// reassign hands over what waits for the other name of the moved destination.
func (w *world) reassign(ctx context.Context, g *gateway) {
	from := "old"
	if w.variant.moved == "old" {
		from = "new"
	}
	status, _ := g.call(ctx, http.MethodPost, api.ReassignPath(movedSource, from), api.ReassignRequest{To: w.variant.moved}, nil)
	w.ledger.operate("reassign", status)
}

// moods has the consumers change their moods, until ctx ends.
func (w *world) moods(ctx context.Context, rng *rand.Rand, moods map[string][]mood) {
	next := map[string]time.Time{}
	for ctx.Err() == nil {
		for name, choice := range moods {
			if time.Now().Before(next[name]) {
				continue
			}
			m := choice[rng.IntN(len(choice))]
			w.ledger.took(m)
			if err := w.consumers[name].be(m); err != nil {
				w.ledger.violates("refused", "consumer %s: %v", name, err)
			}
			next[name] = time.Now().Add(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		}
		wait(ctx, 50*time.Millisecond)
	}
}
