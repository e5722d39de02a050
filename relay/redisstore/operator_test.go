package redisstore_test

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// callsUnderWay counts the calls of this test that wait for Redis.
func callsUnderWay() (n int) {
	stacks := make([]byte, 1<<20)
	for stack := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
		if bytes.Contains(stack, []byte("TestOperatorsWaitLongerThanCallbacks.func")) && bytes.Contains(stack, []byte("proto.(*Reader)")) {
			n++
		}
	}
	return n
}

// Redis may take longer for a list, an event or a replay than for a batch, which the spool takes over instead. The end of the
// store ends all of them.
func TestOperatorsWaitLongerThanCallbacks(t *testing.T) {
	redis := redistest.Start(t)
	const timeout = time.Second
	s := open(t, func(o *redisstore.Options) { o.Addresses, o.Timeout = []string{redis.Addr}, timeout })
	a := newAccept("one")
	accept(t, s, a)
	ctx := t.Context()
	calls := map[string]func() error{
		"events":       func() error { _, _, err := s.Events(ctx, relay.EventFilter{}); return err },
		"event":        func() error { _, err := s.Event(ctx, a.Event.ID); return err },
		"dead letters": func() error { _, _, err := s.DeadLetters(ctx, relay.Selection{}, 10, ""); return err },
		"tasks":        func() error { _, _, err := s.Tasks(ctx, relay.TaskFilter{}); return err },
		"replay":       func() error { _, _, err := s.Replay(ctx, a.Event.ID, []string{"one"}, 0); return err },
	}
	during := func(what func()) map[string]error {
		var mu sync.Mutex
		var done sync.WaitGroup
		errs := map[string]error{}
		redis.Suspend(t)
		for name, call := range calls {
			done.Go(func() {
				err := call()
				mu.Lock()
				defer mu.Unlock()
				errs[name] = err
			})
		}
		what()
		done.Wait()
		return errs
	}
	errs := during(func() {
		late := newAccept("one")
		if s.Apply(ctx, &relay.Batch{Accepts: []*relay.Accept{late}}); !errors.Is(late.Err, relay.ErrUnavailable) {
			t.Errorf("a callback waits for Redis: %v", late.Err)
		}
		pause := time.NewTimer(timeout / 4)
		defer pause.Stop()
		<-pause.C
		redis.Resume(t)
	})
	for name, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var took time.Duration
	errs = during(func() {
		for late := time.Now().Add(20 * time.Second); callsUnderWay() < len(calls); runtime.Gosched() {
			if time.Now().After(late) {
				t.Errorf("after 20 s only %d of %d calls wait for Redis", callsUnderWay(), len(calls))
				break
			}
		}
		start := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		took = time.Since(start)
	})
	if took > 3*timeout {
		t.Errorf("they hold up the end for %s", took)
	}
	for name, err := range errs {
		if !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s ends with %v while Redis hangs", name, err)
		}
	}
	redis.Resume(t)
}
