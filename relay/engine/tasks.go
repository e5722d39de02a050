package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/expect"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/engine/spooling"
)

// Errors of expecting a task.
var (
	// ErrNoRecovery: the source has no `recover`, so that nobody would ask for the task's result.
	ErrNoRecovery = errors.New("recovers nothing: configure `recover`")
	// ErrNeedsAPI: which details are asked depends on the API that the task was submitted to.
	ErrNeedsAPI = errors.New("the API that the task was submitted to must be named, since `recover` names no URL of its details")
	// ErrBadTask: the id, or the API, cannot be that of a task.
	ErrBadTask = errors.New("no such task can be expected")
)

const maxAPI = 256 // bytes

// Expect registers a task whose callback is to come, durably: in the store, or in the spool where the store cannot take it.
// Like a callback, it may come before Start, when no settings name its source yet. api is the path of the submission below
// the provider's base, like "api/v1/vocal-removal/generate". Errors: ErrNoRecovery, ErrNeedsAPI, ErrBadTask,
// relay.ErrTooManyTasks, and those of an accept.
func (e *Engine) Expect(ctx context.Context, src *relay.Source, taskID, api string) error {
	api = strings.Trim(api, "/")
	err := intake.CheckTaskID(taskID)
	switch {
	case src.Recover == nil:
		return fmt.Errorf("source %q %w", src.Name, ErrNoRecovery)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBadTask, err)
	case len(api) > maxAPI || strings.ContainsFunc(api, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%w: the API is longer than %d bytes, or holds a space", ErrBadTask, maxAPI)
	case api == "" && src.Recover.Details == nil:
		return ErrNeedsAPI
	}
	task := &relay.Expectation{
		ExpectedTask: relay.ExpectedTask{Source: src.Name, TaskID: taskID, API: api, At: time.Now()},
		After:        src.Recover.After, Most: relay.MaxExpected,
	}
	ctx, cancel := context.WithTimeout(ctx, src.AckWithin)
	defer cancel()
	return e.expectTask(ctx, task)
}

func (e *Engine) expectTask(ctx context.Context, task *relay.Expectation) error {
	spool := e.spooling.Spooler()
	if spool == nil {
		// Right after a start the spool is opened with the store, and is there once it is known that the store cannot be.
		opening, cancel := context.WithTimeout(ctx, e.options.StoreTimeout)
		_, _ = e.access.Await(opening)
		cancel()
		spool = e.spooling.Spooler()
	}
	if spool == nil {
		return e.expectInStore(ctx, task)
	}
	if !spool.Follows(ctx, task.Source, time.Now().Add(e.options.StoreTimeout)) {
		bounded, cancel := context.WithTimeout(ctx, e.options.StoreTimeout)
		defer cancel()
		err := e.expectInStore(bounded, task)
		if err == nil || !spooling.Spoolable(err) {
			return err
		}
		spool.DivertTask(task.Source)
	}
	return spool.TakeTask(ctx, task)
}

func (e *Engine) expectInStore(ctx context.Context, task *relay.Expectation) error {
	store, err := e.access.Await(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	err = e.expecting.run(ctx, func() error { return store.Expect(ctx, task) })
	e.meter.ObserveStore("expect", start, err)
	e.poller.Rouse(task.Source)
	return err
}

// Tasks lists expected tasks, those that have ended too, the newest first.
func (e *Engine) Tasks(ctx context.Context, f relay.TaskFilter) ([]relay.TaskRecord, string, error) {
	store, err := e.Store()
	if err != nil {
		return nil, "", err
	}
	if err := e.nextPage(ctx, f.Cursor); err != nil {
		return nil, "", err
	}
	start := time.Now()
	tasks, next, err := store.Tasks(ctx, f)
	e.observe("tasks", start, err)
	return tasks, next, err
}

// recover accepts what a poll has found.
func (e *Engine) recover(ctx context.Context, src *relay.Source, taskID string, body []byte) (expect.Accepted, error) {
	o, err := e.intake.Recover(ctx, src, taskID, body)
	return expect.Accepted{Result: o.Result, EventID: o.EventID, Spooled: o.Spooled}, err
}

// taskCounts counts the expected tasks of each source, from memory.
func (e *Engine) taskCounts() map[string]relay.TaskCount {
	counts := map[string]relay.TaskCount{}
	for name, src := range e.settings.Load().Sources {
		if src.Recover != nil {
			counts[name] = relay.TaskCount{Source: name}
		}
	}
	if store, err := e.Store(); err == nil {
		for _, c := range store.TaskCounts() {
			if _, recovers := counts[c.Source]; recovers || c.Expected+c.Overdue > 0 {
				counts[c.Source] = c
			}
		}
	}
	return counts
}
