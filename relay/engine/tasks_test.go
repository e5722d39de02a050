package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// details plays a provider's details endpoint. Its provider judges the answers by their status: 202 is pending, and the body of
// another one is the callback.
type details struct {
	relay.Provider
	*httptest.Server
	mu     sync.Mutex
	answer func(task string) (status int, body string)
	asked  map[string]int
}

func (*details) DetailsPath(api, taskID string) (string, bool) {
	return "details?taskId=" + url.QueryEscape(taskID), api == "generate"
}

func (*details) Judge(_, _ string, status int, body []byte) relay.Verdict {
	switch status {
	case http.StatusAccepted:
		return relay.Verdict{Kind: relay.VerdictPending, Reason: "PENDING"}
	case http.StatusOK:
		return relay.Verdict{Kind: relay.VerdictSuccess, Body: body}
	}
	return relay.Verdict{Kind: relay.VerdictAgain, Reason: http.StatusText(status)}
}

// newDetails starts a details endpoint whose tasks run.
func newDetails(t *testing.T, p relay.Provider) *details {
	t.Helper()
	d := &details{Provider: p, asked: map[string]int{}, answer: func(string) (int, string) { return http.StatusAccepted, "" }}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		task := r.URL.Query().Get("taskId")
		d.mu.Lock()
		d.asked[task]++
		answer := d.answer
		d.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer key" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		status, body := answer(task)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *details) set(answer func(task string) (int, string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func (d *details) polls(task string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[task]
}

// newRecoveringSource is a source whose tasks are overdue after the time given.
func newRecoveringSource(t *testing.T, d **details, after time.Duration, c *consumer) *relay.Source {
	t.Helper()
	src := newShortSource(t, c)
	*d = newDetails(t, src.Provider)
	src.Provider = *d
	base, err := url.Parse((*d).URL)
	if err != nil {
		t.Fatal(err)
	}
	src.Recover = &relay.Recovery{
		Base: base, Header: http.Header{"Authorization": {"Bearer key"}}, After: after, Every: 50 * time.Millisecond, For: time.Hour,
	}
	return src
}

func (g *gateway) mustExpect(task string) {
	g.t.Helper()
	if err := g.Expect(context.Background(), g.source, task, "/generate"); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) taskOf(id string) relay.TaskRecord {
	g.t.Helper()
	tasks, _, err := g.Tasks(context.Background(), relay.TaskFilter{Source: "vocals", TaskID: id})
	if err != nil || len(tasks) > 1 {
		g.t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	if len(tasks) == 0 {
		return relay.TaskRecord{}
	}
	return tasks[0]
}

func (g *gateway) awaitTask(id string, state relay.TaskState) (task relay.TaskRecord) {
	g.t.Helper()
	g.await(fmt.Sprintf("task %s is %s", id, state), func() bool {
		task = g.taskOf(id)
		return task.State == state
	})
	return task
}

// withOther is another body of a task's callback, with a stage and files of its own.
func withOther(task string, code int) string {
	return fmt.Sprintf(`{"code":%d,"data":{"callbackType":"complete","task_id":%q,"vocal_removal_info":{"vocal_url":"https://f.example/other.mp3"}}}`, code, task)
}

func TestExpectIsRefused(t *testing.T) {
	var d *details
	src := newRecoveringSource(t, &d, time.Hour, newConsumer(t, nil))
	g := startGateway(t, "", openSQLite(t.TempDir()+"/relay.db"), src)
	for _, tc := range []struct {
		task, api string
		want      error
	}{
		{"no id", "generate", engine.ErrBadTask},
		{"one", "", engine.ErrNeedsAPI},
		{"one", strings.Repeat("x", 300), engine.ErrBadTask},
	} {
		if err := g.Expect(t.Context(), src, tc.task, tc.api); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	src.Recover = nil
	if err := g.Expect(t.Context(), src, "one", "generate"); !errors.Is(err, engine.ErrNoRecovery) {
		t.Errorf("without `recover`: %v", err)
	}
}

func TestACallbackThatDoesNotComeIsRecovered(t *testing.T) {
	t.Parallel()
	var d *details
	c := newConsumer(t, nil)
	g := startGateway(t, "", openSQLite(t.TempDir()+"/relay.db"), newRecoveringSource(t, &d, time.Millisecond, c))
	g.mustExpect("one")
	g.await("it is asked for", func() bool { return d.polls("one") > 0 })
	d.set(func(task string) (int, string) { return http.StatusOK, callbackText(task) })
	task := g.awaitTask("one", relay.TaskRecovered)
	rec, err := g.Event(t.Context(), task.EventID)
	if err != nil || rec.Origin != relay.OriginRecovered || string(rec.Body) != callbackText("one") {
		t.Fatalf("event %+v, %v", rec, err)
	}
	if got := c.next(t); got.body != callbackText("one") || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("delivered %v, %s", got.header, got.body)
	}

	// The callback comes all the same: as the details have it, with other content, and as a failure.
	if id := g.mustAccept("one"); id != task.EventID {
		t.Errorf("the same callback became event %s", id)
	}
	if w := g.send(callbackOf(withOther("one", 200))); w.Header().Get("Relay-Event-Id") != task.EventID || w.Header().Get("Relay-Duplicate") == "" {
		t.Errorf("the same outcome with other content was answered %v", w.Header())
	}
	if n := c.count(); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	w := g.send(callbackOf(withOther("one", 501)))
	if w.Header().Get("Relay-Event-Id") == task.EventID {
		t.Error("another outcome was no event of its own")
	}
	c.next(t)
}

func TestACallbackBeforeItsRegistrationCounts(t *testing.T) {
	var d *details
	g := startGateway(t, "", openSQLite(t.TempDir()+"/relay.db"), newRecoveringSource(t, &d, time.Millisecond, newConsumer(t, nil)))
	id := g.mustAccept("one")
	g.mustExpect("one")
	if task := g.taskOf("one"); task.State != relay.TaskCalledBack || task.EventID != id {
		t.Errorf("task %+v", task)
	}
}

func TestACallbackThatComesWhileItsTaskIsPolled(t *testing.T) {
	var d *details
	c := newConsumer(t, nil)
	g := startGateway(t, "", openSQLite(t.TempDir()+"/relay.db"), newRecoveringSource(t, &d, time.Millisecond, c))
	asked, answer := make(chan struct{}), make(chan struct{})
	d.set(func(task string) (int, string) {
		close(asked)
		<-answer
		return http.StatusOK, withOther(task, 200)
	})
	g.mustExpect("one")
	<-asked
	id := g.mustAccept("one")
	close(answer)
	g.await("the poll has ended", func() bool { return g.Status(t.Context()).Sources[0].Tasks.Overdue == 0 })
	if task := g.taskOf("one"); task.State != relay.TaskCalledBack || task.EventID != id {
		t.Errorf("task %+v", task)
	}
	events, _, err := g.Events(t.Context(), relay.EventFilter{TaskID: "one"})
	if err != nil || len(events) != 1 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestTwoGatewaysPollEachTaskOnce(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	var d *details
	c := newConsumer(t, nil)
	src := newRecoveringSource(t, &d, time.Millisecond, c)
	src.Recover.Every = time.Hour
	a, b := newRedisGateway(t, redis, src), newRedisGateway(t, redis, src)
	const tasks = 8
	for i := range tasks {
		[]*gateway{a, b}[i%2].mustExpect(fmt.Sprint("task-", i))
	}
	for i := range tasks {
		name := fmt.Sprint("task-", i)
		a.await(name+" is polled", func() bool { return d.polls(name) > 0 })
	}
	for i := range tasks {
		if n := d.polls(fmt.Sprint("task-", i)); n != 1 {
			t.Errorf("task-%d was polled %d times", i, n)
		}
	}
}

// What Redis could not register waits in the spool, and what it could not accept of a result too.
func TestRecoveryWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendfsync", "always")
	var d *details
	c := newConsumer(t, nil)
	g := newRedisGateway(t, redis, newRecoveringSource(t, &d, time.Millisecond, c))
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.set(func(task string) (int, string) {
		if task == "late" {
			once.Do(func() { close(asked) })
			<-answer
		}
		return http.StatusOK, callbackText(task)
	})
	g.mustExpect("late")
	<-asked
	redis.Kill()
	g.mustExpect("spooled")
	called := g.mustAccept("called")
	g.mustExpect("called")
	close(answer)
	g.await("all are in the spool", func() bool { return g.Spooled() == 4 })
	redis.Restart(t)
	g.await("the spool is empty", func() bool { return g.Spooled() == 0 })
	g.awaitTask("late", relay.TaskRecovered)
	g.awaitTask("spooled", relay.TaskRecovered)
	if task := g.awaitTask("called", relay.TaskCalledBack); task.EventID != called {
		t.Errorf("task %+v", task)
	}
	g.await("each is delivered", func() bool { return len(c.tasks()) == 3 })
	if n := c.count(); n != 3 {
		t.Errorf("delivered %d times", n)
	}
}

// Submissions are answered from the moment that connections are, which is before the engine has started.
func TestATaskIsExpectedBeforeTheStart(t *testing.T) {
	for _, tc := range []struct {
		name    string
		away    error // of the store
		spooled int
	}{
		{"the store is opened", nil, 0},
		{"the store is away", relay.ErrUnavailable, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			var d *details
			g := &gateway{t: t, source: newRecoveringSource(t, &d, time.Hour, newConsumer(t, nil))}
			g.Engine = engine.New(engine.Options{
				OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
					if tc.away != nil {
						return nil, tc.away
					}
					return openSQLite(filepath.Join(dir, "relay.db"))(ctx, logger)
				},
				OpenSpool: func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) {
					return spool.Open(ctx, spool.Options{Path: filepath.Join(dir, "spool.db")})
				},
				Logger: slog.New(slog.DiscardHandler),
			})
			t.Cleanup(func() { _ = g.Close() })
			expected := make(chan error, 1)
			go func() { expected <- g.Expect(t.Context(), g.source, "early", "generate") }()
			if err := g.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.Push(g.settings())
			if err := <-expected; err != nil {
				t.Fatal(err)
			}
			if g.Spooled() != tc.spooled {
				t.Errorf("%d items in the spool", g.Spooled())
			}
			if tc.away == nil && g.taskOf("early").State != relay.TaskExpected {
				t.Errorf("the task is %+v", g.taskOf("early"))
			}
		})
	}
}
