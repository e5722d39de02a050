package engine_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

// client is one that follows a stream, from a goroutine of its own.
type client struct {
	t    *testing.T
	got  chan stream.Item
	stop context.CancelFunc
	err  chan error // why it ended
}

func follow(t *testing.T, g *gateway, source, since string) *client {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &client{t: t, got: make(chan stream.Item, 100_000), stop: stop, err: make(chan error, 1)}
	watching := make(chan struct{})
	var once sync.Once
	go func() {
		c.err <- g.Stream(ctx, source, since, func(items []*stream.Entry) error {
			once.Do(func() { close(watching) })
			for _, i := range items {
				c.got <- i.Item
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err, ok := <-c.err; ok && !errors.Is(err, context.Canceled) && !errors.Is(err, relay.ErrClosed) {
			t.Error(err)
		}
	})
	select {
	case <-watching:
	case <-time.After(patience):
		t.Fatal("the stream did not begin")
	}
	return c
}

func (c *client) next() stream.Item {
	c.t.Helper()
	select {
	case i := <-c.got:
		return i
	case <-time.After(patience):
		c.t.Fatal("nothing came")
		return stream.Item{}
	}
}

// end ends the stream and returns why it has ended.
func (c *client) end() error {
	c.t.Helper()
	c.stop()
	err := <-c.err
	close(c.err)
	return err
}

// The stream shows each step of a delivery.
func TestStream(t *testing.T) {
	c := newConsumer(t, func(n int, _ *http.Request) int { return []int{0, 500, 200, 410}[n] })
	d := destination(t, "a", c.URL)
	d.Retry = retries(time.Millisecond)
	g := newGateway(t, d)
	settings := g.settings()
	settings.Sources["other"] = newSource(d)
	settings.Sources["other"].Name = "other"
	g.Push(settings)
	watcher := follow(t, g, "vocals", "")
	other := follow(t, g, "other", "")
	if err := g.Stream(t.Context(), "nobody", "", nil); !errors.Is(err, relay.ErrNotFound) {
		t.Errorf("a source that nobody knows: %v", err)
	}
	id := g.mustAccept("task-1")
	for i, want := range []stream.Item{
		{Kind: stream.Accepted, TaskID: "task-1", Code: "200"},
		{Kind: stream.Retrying, TaskID: "task-1", Destination: "a", Attempt: 1, Status: 500, RetryIn: time.Millisecond},
		{Kind: stream.Delivered, TaskID: "task-1", Destination: "a", Attempt: 2, Status: 200},
	} {
		got := watcher.next()
		if got.At.IsZero() || (got.Kind != stream.Accepted) != (got.Duration > 0) {
			t.Errorf("%d: %+v", i, got)
		}
		got.At, got.Duration, got.Seq = time.Time{}, 0, 0
		want.EventID, want.Source = id, "vocals"
		if got != want {
			t.Errorf("%d: got %+v, want %+v", i, got, want)
		}
	}
	second := g.mustAccept("task-2")
	if got := watcher.next(); got.Kind != stream.Accepted || got.EventID != second {
		t.Errorf("%+v", got)
	}
	if got := watcher.next(); got.Kind != stream.Dead || got.EventID != second || got.Status != http.StatusGone || got.Attempt != 1 {
		t.Errorf("%+v", got)
	}
	g.send(callback("task-1")) // a duplicate is no event
	if err := watcher.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := len(watcher.got); n > 0 {
		t.Errorf("%d more: %+v", n, <-watcher.got)
	}
	_ = other.end()
	if n := len(other.got); n > 0 {
		t.Errorf("another source's: %+v", <-other.got)
	}
}

// A client that reconnects again and again while callbacks arrive sees each event, and the stored ones in their order.
func TestStreamResumes(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		const events = 1200 // more than two pages of the replay
		c := newConsumer(t, nil)
		g := start(destination(t, "a", c.URL))
		first := g.mustAccept("first")
		var accepted []string
		var mu sync.Mutex
		var senders sync.WaitGroup
		for s := range 4 {
			senders.Go(func() {
				for i := range events / 4 {
					id := g.accept("task-" + strconv.Itoa(s) + "-" + strconv.Itoa(i))
					mu.Lock()
					accepted = append(accepted, id)
					mu.Unlock()
				}
			})
		}
		seen := map[string]int{}
		last := first
		for len(seen) < events {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			n := 0
			err := g.Stream(ctx, "", last, func(items []*stream.Entry) error {
				for _, i := range items {
					if i.Kind != stream.Accepted {
						continue
					}
					seen[i.EventID]++
					last = i.EventID
					if n++; n == 97 || len(seen) == events { // the client hangs up in the middle of something
						return errHungUp
					}
				}
				return nil
			})
			cancel()
			if !errors.Is(err, errHungUp) {
				t.Fatalf("%d of %d were seen: %v", len(seen), events, err)
			}
		}
		senders.Wait()
		for _, id := range accepted {
			if seen[id] == 0 {
				t.Fatalf("%s was not seen", id)
			}
		}
		if seen[first] > 0 {
			t.Error("the event after which to begin was seen, too")
		}

		// Stored events come in the store's order, over several pages.
		var order, want []string
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := g.Stream(ctx, "vocals", first, func(items []*stream.Entry) error {
			for _, i := range items {
				if i.Kind == stream.Accepted {
					order = append(order, i.EventID)
				}
			}
			if len(order) >= events {
				return errHungUp
			}
			return nil
		})
		if !errors.Is(err, errHungUp) {
			t.Fatal(err)
		}
		for cursor := ""; ; {
			page, next, err := g.Events(t.Context(), relay.EventFilter{Limit: 500, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range page {
				want = append(want, rec.ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		slices.Reverse(want)
		if !slices.Equal(order, want[1:]) {
			t.Errorf("%d events in another order than the store's %d", len(order), len(want)-1)
		}
	})
}

var errHungUp = errors.New("the client hung up")

// The stream shows what deliveries have come to that settled while the client was away.
func TestStreamReplaysStates(t *testing.T) {
	c := newConsumer(t, func(_ int, r *http.Request) int {
		if r.Header.Get("Relay-Task-Id") == "bad" {
			return http.StatusGone
		}
		return http.StatusOK
	})
	g := newGateway(t, destination(t, "a", c.URL))
	first := g.mustAccept("first")
	bad, good := g.mustAccept("bad"), g.mustAccept("good")
	g.awaitState(bad, "a", relay.StateDead)
	g.awaitState(good, "a", relay.StateDelivered)
	watcher := follow(t, g, "", first)
	for i, want := range []struct {
		kind stream.Kind
		id   string
	}{{stream.Accepted, bad}, {stream.Dead, bad}, {stream.Accepted, good}, {stream.Delivered, good}} {
		if got := watcher.next(); got.Kind != want.kind || got.EventID != want.id {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
}

// An event that is no longer stored is a place to begin all the same, by the time in its id.
func TestStreamAfterUnknownEvent(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		c := newConsumer(t, nil)
		g := start(destination(t, "a", c.URL))
		id := g.mustAccept("task-1")
		watcher := follow(t, g, "", "01ARZ3NDEKTSV4RRFFQ69G5FAV") // of 2016
		if got := watcher.next(); got.EventID != id || got.Kind != stream.Accepted {
			t.Errorf("%+v", got)
		}
		if after, earlier := g.backlog("", "7"+id[1:]); len(after)+len(earlier) > 0 { // of a time to come
			t.Errorf("%q, %q", after, earlier)
		}
		if err := g.Stream(t.Context(), "", "nonsense", nil); err == nil {
			t.Error("began after nonsense")
		}
	})
}

// The stream ends when the engine does, and no client holds up the stop.
func TestStreamEndsWithEngine(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	ended := make(chan error, 1)
	watching := make(chan struct{})
	var once sync.Once
	go func() {
		ended <- g.Stream(context.Background(), "", "", func([]*stream.Entry) error {
			once.Do(func() { close(watching) })
			return nil
		})
	}()
	<-watching
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, relay.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}
