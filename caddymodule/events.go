package caddymodule

import (
	"context"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/callbackrelay/caddy-relay/relay"
)

// eventDeadLetter is the Caddy event of a delivery given up.
const eventDeadLetter = "relay_dead_letter"

// deadLetterQueue is how many dead letters may wait for slow event handlers. Later ones are not told: they stay listed.
const deadLetterQueue = 1024

// emitter tells dead letters to Caddy's events app, whose handlers run one after the other in the caller's goroutine:
// here that is the emitter's own, so that no delivery waits for them.
type emitter struct {
	ctx     caddy.Context
	cancel  context.CancelFunc
	events  *caddyevents.App
	logger  *slog.Logger
	letters chan relay.DeadLetter
	quit    chan struct{}
	done    chan struct{}
}

// startEmitter runs an emitter until its stop. ctx says which module the events come from.
func startEmitter(ctx caddy.Context, events *caddyevents.App, logger *slog.Logger) *emitter {
	// Of what Context embeds only the cancellation is new: handlers must still see the module.
	cancellable, cancel := context.WithCancel(ctx.Context)
	ctx.Context = cancellable
	e := &emitter{
		ctx:     ctx,
		cancel:  cancel,
		events:  events,
		logger:  logger,
		letters: make(chan relay.DeadLetter, deadLetterQueue),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go e.run()
	return e
}

// offer takes a dead letter without ever blocking.
func (e *emitter) offer(letter relay.DeadLetter) {
	select {
	case e.letters <- letter:
	default:
		e.logger.Warn("event handlers are too slow: a dead letter is not told to them",
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
			// What waits is still told, until stop's patience ends.
			for e.ctx.Err() == nil {
				select {
				case letter := <-e.letters:
					e.emit(letter)
				default:
					return
				}
			}
			if n := len(e.letters); n > 0 {
				e.logger.Warn("event handlers are too slow: dead letters are not told to them at the stop",
					"event", eventDeadLetter, "waiting", n)
			}
			return
		}
	}
}

func (e *emitter) emit(letter relay.DeadLetter) {
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

// stop lets event handlers have what waits, for as long as patience lasts, and awaits the goroutine.
func (e *emitter) stop(patience time.Duration) {
	timer := time.AfterFunc(patience, e.cancel)
	defer timer.Stop()
	close(e.quit)
	<-e.done
	e.cancel()
}
