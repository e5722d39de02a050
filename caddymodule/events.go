package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/callbackrelay/caddy-relay/relay"
)

func init() {
	caddy.RegisterModule(originLoader{})
}

// eventDeadLetter is the Caddy event of a delivery given up.
const eventDeadLetter = "relay_dead_letter"

// deadLetterQueue is how many dead letters may wait for slow event handlers. Later ones are not announced, but stay listed.
const deadLetterQueue = 1024

// lastAttemptTimeout is how long an announcement waits for the store to say how the last attempt ended.
const lastAttemptTimeout = 2 * time.Second

// handlerGrace is how long a stop waits for an event handler whose context has ended.
const handlerGrace = time.Second

// emitter announces dead letters through Caddy's events app, which runs its handlers one after the other in the caller's
// goroutine: the emitter has one of its own, so that no delivery waits for them.
type emitter struct {
	ctx     caddy.Context
	cancel  context.CancelFunc
	events  *caddyevents.App
	find    findEvent
	logger  *slog.Logger
	letters chan relay.DeadLetter
	quit    chan struct{}
	done    chan struct{}
}

// findEvent reads an event with its attempts.
type findEvent func(ctx context.Context, id string) (*relay.EventRecord, error)

// startEmitter runs an emitter until its stop. The end of ctx does not end it: Caddy cancels a config's context before the
// deliveries in flight are drained, and those may become dead letters too.
func startEmitter(ctx caddy.Context, events *caddyevents.App, find findEvent, logger *slog.Logger) (*emitter, error) {
	ctx, cancel, err := originContext(ctx)
	if err != nil {
		return nil, err
	}
	e := &emitter{
		ctx:     ctx,
		cancel:  cancel,
		events:  events,
		find:    find,
		logger:  logger,
		letters: make(chan relay.DeadLetter, deadLetterQueue),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go e.run()
	return e, nil
}

// offer queues a dead letter without ever blocking.
func (e *emitter) offer(letter relay.DeadLetter) {
	select {
	case e.letters <- letter:
	default:
		e.logger.Warn("event handlers too slow: dead letter not announced",
			"event", eventDeadLetter, "event_id", letter.EventID, "destination", letter.Destination)
	}
}

func (e *emitter) run() {
	defer close(e.done)
	for {
		select {
		case letter := <-e.letters:
			e.emit(letter)
		case <-e.quit:
			// What waits is still announced, until stop's patience ends.
			for e.ctx.Err() == nil {
				select {
				case letter := <-e.letters:
					e.emit(letter)
				default:
					return
				}
			}
			if n := len(e.letters); n > 0 {
				e.logger.Warn("event handlers too slow: dead letters not announced at the stop",
					"event", eventDeadLetter, "waiting", n)
			}
			return
		}
	}
}

// emit announces one dead letter. Its handlers are other people's: a panic of theirs must not end the process (12).
func (e *emitter) emit(letter relay.DeadLetter) {
	defer func() {
		if v := recover(); v != nil {
			e.logger.Error("an event handler panicked", "event", eventDeadLetter, "event_id", letter.EventID,
				"destination", letter.Destination, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	if letter.LastError == relay.ErrExpired.Error() && letter.LastStatus == 0 && letter.Attempts > 0 {
		letter.LastStatus = e.lastStatus(letter)
	}
	e.events.Emit(e.ctx, eventDeadLetter, map[string]any{
		"event_id":    letter.EventID,
		"source":      letter.Source,
		"task_id":     letter.TaskID,
		"destination": letter.Destination,
		"attempts":    letter.Attempts,
		"last_status": letter.LastStatus,
		"last_error":  letter.LastError,
		"dead_at":     letter.DeadAt,
	})
}

// lastStatus returns the status of the last attempt of a delivery that expired as it was leased, when no attempt was at
// hand; 0 where the store does not have it.
func (e *emitter) lastStatus(letter relay.DeadLetter) int {
	ctx, cancel := context.WithTimeout(e.ctx, lastAttemptTimeout)
	defer cancel()
	rec, err := e.find(ctx, letter.EventID)
	if err != nil {
		return 0
	}
	i := slices.IndexFunc(rec.Deliveries, func(d relay.DeliveryRecord) bool { return d.Destination == letter.Destination })
	if i < 0 || len(rec.Deliveries[i].Attempts) == 0 {
		return 0
	}
	attempts := rec.Deliveries[i].Attempts
	return attempts[len(attempts)-1].Status
}

// stop lets event handlers have what waits, for as long as patience lasts, and awaits the goroutine. A handler that does not
// heed its context is left behind, since it must not hold up a reload.
func (e *emitter) stop(patience time.Duration) {
	defer e.cancel()
	close(e.quit)
	if e.ends(patience) {
		return
	}
	e.cancel()
	if !e.ends(handlerGrace) {
		e.logger.Error("an event handler goes on after its time: it is left behind", "event", eventDeadLetter)
	}
}

// ends reports whether the goroutine ends in time.
func (e *emitter) ends(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-e.done:
		return true
	case <-timer.C:
		return false
	}
}

// origin replaces the app in the context that events are emitted with: it has the app's module ID.
type origin struct{ ctx caddy.Context }

// CaddyModule returns the information of the app's module.
func (*origin) CaddyModule() caddy.ModuleInfo { return new(App).CaddyModule() }

// Provision keeps the context whose only module is this one.
func (o *origin) Provision(ctx caddy.Context) error {
	o.ctx = ctx
	return nil
}

// originLoader lets Caddy load an origin.
type originLoader struct{}

// CaddyModule returns the Caddy module information.
func (originLoader) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.event_origin",
		New: func() caddy.Module { return new(origin) },
	}
}

// originContext returns a context whose events originate from the app, and that ends only by its cancel. Caddy takes the
// last module of a context's ancestry for the origin. The app's own context does not do: several contexts share the array
// of their ancestry, and a module that is provisioned after the app may overwrite it there. The ancestry of a new context
// has an array of its own.
func originContext(ctx caddy.Context) (caddy.Context, context.CancelFunc, error) {
	ctx.Context = context.WithoutCancel(ctx.Context)
	// Its cancel would run what is to be cleaned up with ctx; this context has nothing to clean up.
	empty, _ := caddy.NewContext(ctx)
	module, err := empty.LoadModuleByID(string(originLoader{}.CaddyModule().ID), nil)
	if err != nil {
		return caddy.Context{}, nil, fmt.Errorf("preparing the context of events: %w", err)
	}
	own := module.(*origin).ctx
	cancellable, cancel := context.WithCancel(own.Context)
	own.Context = cancellable
	return own, cancel, nil
}

// Interface guards
var (
	_ caddy.Provisioner = (*origin)(nil)
	_ caddy.Module      = originLoader{}
)
