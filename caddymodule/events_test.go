package caddymodule

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/callbackrelay/caddy-relay/relay"
)

// eventFunc is a function as an event handler.
type eventFunc func(caddy.Event)

func (f eventFunc) Handle(_ context.Context, e caddy.Event) error {
	f(e)
	return nil
}

func testEmitter(t *testing.T, handle func()) (*emitter, *bytes.Buffer) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	events := new(caddyevents.App)
	if err := events.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := events.On(eventDeadLetter, eventFunc(func(caddy.Event) { handle() })); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	find := func(context.Context, string) (*relay.EventRecord, error) { return nil, relay.ErrNotFound }
	e, err := startEmitter(ctx, events, find, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return e, &log
}

// TestEmitterStop checks that the letters still waiting are emitted before it stops.
func TestEmitterStop(t *testing.T) {
	told := 0
	e, _ := testEmitter(t, func() { told++ })
	for range 100 {
		e.offer(relay.DeadLetter{})
	}
	e.stop(time.Minute)
	if told != 100 {
		t.Errorf("%d dead letters were announced, expected 100", told)
	}
}

// TestEmitterStuck stops although a handler never ends, nor does its panic end anything.
func TestEmitterStuck(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	told := 0
	e, log := testEmitter(t, func() {
		if told++; told == 1 {
			panic("of a handler")
		}
		close(begun)
		<-end
	})
	e.offer(relay.DeadLetter{})
	e.offer(relay.DeadLetter{})
	<-begun
	e.stop(time.Millisecond)
	if got := log.String(); !strings.Contains(got, `panic="of a handler"`) || !strings.Contains(got, "left behind") {
		t.Errorf("logged: %s", got)
	}
	close(end)
	<-e.done
}

// TestEmitterSlow neither blocks who offers, nor announces anything after its patience.
func TestEmitterSlow(t *testing.T) {
	begun, end := make(chan struct{}, deadLetterQueue), make(chan struct{})
	e, log := testEmitter(t, func() {
		begun <- struct{}{}
		<-end
	})
	e.offer(relay.DeadLetter{})
	<-begun
	for range deadLetterQueue + 1 {
		e.offer(relay.DeadLetter{EventID: "some"})
	}
	stopped := make(chan struct{})
	go func() {
		e.stop(time.Millisecond)
		close(stopped)
	}()
	<-e.ctx.Done() // the patience is over
	close(end)
	<-stopped
	if n := len(begun); n != 0 {
		t.Errorf("%d more were announced after the patience was over", n)
	}
	if got := log.String(); !strings.Contains(got, "dead letter not announced") || !strings.Contains(got, "at the stop") {
		t.Errorf("logged: %s", got)
	}
}

// TestEmitterExpired announces the last attempt's status of what expired before another attempt.
func TestEmitterExpired(t *testing.T) {
	rec := &relay.EventRecord{Deliveries: []relay.DeliveryRecord{
		{Destination: "library", Attempts: []relay.Attempt{{Status: 500}}},
		{Destination: "billing", Attempts: []relay.Attempt{{Status: 429}, {Status: 503}}},
		{Destination: "unasked"},
	}}
	expired := relay.DeadLetter{EventID: "some", Destination: "billing", Attempts: 2, LastError: relay.ErrExpired.Error()}
	other := expired
	other.LastError = "connection refused"
	unknown := expired
	unknown.EventID = "none"
	unasked := expired
	unasked.Destination = "unasked"
	for _, c := range []struct {
		letter   relay.DeadLetter
		expected int
	}{{expired, 503}, {other, 0}, {unknown, 0}, {unasked, 0}} {
		e, _ := testEmitter(t, func() {})
		e.find = func(_ context.Context, id string) (*relay.EventRecord, error) {
			if id != "some" {
				return nil, relay.ErrNotFound
			}
			return rec, nil
		}
		heard := make(chan caddy.Event, 1)
		if err := e.events.On(eventDeadLetter, eventFunc(func(event caddy.Event) { heard <- event })); err != nil {
			t.Fatal(err)
		}
		e.offer(c.letter)
		e.stop(time.Minute)
		if data := (<-heard).Data; data["last_status"] != c.expected || data["last_error"] != c.letter.LastError {
			t.Errorf("%+v: announced as %v", c.letter, data)
		}
	}
}

// TestLatestLog writes to the newest config's logger, and to the one before again when that is taken back.
func TestLatestLog(t *testing.T) {
	var first, second bytes.Buffer
	a, b := slog.New(slog.NewTextHandler(&first, nil)), slog.New(slog.NewTextHandler(&second, nil))
	l := newLatest(running{logger: slog.New(slog.DiscardHandler)})
	log := slog.New(latestLog{latest: l}).With("store", "x").WithGroup("g")
	log.Info("nowhere")
	l.push(running{logger: a})
	log.Info("one", "k", 1)
	l.push(running{logger: b})
	log.Info("two", "k", 2)
	l.remove(running{logger: b})
	log.Info("three", "k", 3)
	l.remove(running{logger: a})
	log.Info("four", "k", 4) // the engine closes
	for _, expected := range []string{"msg=one store=x g.k=1", "msg=three store=x g.k=3", "msg=four store=x g.k=4"} {
		if !strings.Contains(first.String(), expected) {
			t.Errorf("no %q in %s", expected, &first)
		}
	}
	if got := second.String(); !strings.Contains(got, "msg=two store=x g.k=2") || strings.Count(got, "msg=") != 1 {
		t.Errorf("second: %s", got)
	}
}
