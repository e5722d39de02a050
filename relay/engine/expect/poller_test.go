package expect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// bench is a poller on a real store, with a provider that a test plays. It lives in a bubble, whose clock is also the store's.
type bench struct {
	*Poller
	t       *testing.T
	store   *sqlitestore.Store
	source  *relay.Source
	metrics *meter.Metrics
	logged  bytes.Buffer
	answer  func(taskID string) string // what the details say: a kind and a reason
	accept  func(taskID string) (Accepted, error)
	calls   atomic.Int64 // of the store, by the poller

	mu    sync.Mutex
	asked []question
	taken []string
}

type question struct {
	task string
	at   time.Time
}

// counted counts the poller's calls of a store that may write.
type counted struct {
	relay.TaskStore
	calls *atomic.Int64
}

func (c counted) LeaseTasks(ctx context.Context, l *relay.TaskLease) ([]*relay.LeasedTask, time.Duration, error) {
	c.calls.Add(1)
	return c.TaskStore.LeaseTasks(ctx, l)
}

func (c counted) SettleTask(ctx context.Context, s *relay.TaskSettle) error {
	c.calls.Add(1)
	return c.TaskStore.SettleTask(ctx, s)
}

type provider struct {
	relay.Provider
	reader
}

// RoundTrip plays the provider.
func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	task := r.URL.Query().Get("taskId")
	b.mu.Lock()
	b.asked = append(b.asked, question{task, time.Now()})
	text := b.answer(task)
	b.mu.Unlock()
	if text == "" {
		return nil, errors.New("nobody answers")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(text))}, nil
}

// says sets what the details say from now on.
func (b *bench) says(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = func(string) string { return text }
}

// in runs a test in a bubble.
func in(t *testing.T, test func(b *bench)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.db")
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: path, MinFree: 1})
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, store: store, metrics: meter.New(), answer: func(string) string { return "pending PENDING" }}
		b.accept = func(string) (Accepted, error) { return Accepted{Result: relay.Accepted}, nil }
		b.source = &relay.Source{
			Name: "vocals", Provider: provider{}, MaxBody: 1 << 20, Recover: &relay.Recovery{
				Base: mustURL(t, "https://api.example"), After: 10 * time.Minute, Every: 30 * time.Second, For: 24 * time.Hour,
			},
		}
		b.metrics.Source(b.source.Name)
		logger := slog.New(slog.NewTextHandler(&b.logged, nil))
		b.Poller = New(Params{
			GaveUp: func(string) {},
			Accept: func(_ context.Context, _ *relay.Source, taskID string, body []byte) (Accepted, error) {
				b.mu.Lock()
				b.taken = append(b.taken, string(body))
				b.mu.Unlock()
				accepted, err := b.accept(taskID)
				if err == nil && accepted.Result == relay.Accepted {
					b.end(taskID)
				}
				return accepted, err
			},
			Transport: b, Version: "test", Meter: b.metrics, Logger: func() *slog.Logger { return logger },
		})
		b.Run(counted{store, &b.calls})
		b.Configure(map[string]*relay.Source{"vocals": b.source})
		test(b)
		b.Stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// end accepts the recovered event of a task.
func (b *bench) end(task string) {
	ev := &relay.Event{ID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", Source: "vocals", TaskID: task, Origin: relay.OriginRecovered, Body: []byte("{}")}
	batch := &relay.Batch{Accepts: []*relay.Accept{{Event: ev, Window: time.Hour, Ends: relay.EndingSuccess}}}
	b.store.Apply(b.t.Context(), batch)
	if err := batch.Accepts[0].Err; err != nil {
		b.t.Error(err)
	}
}

func (b *bench) expect(task, api string) {
	b.t.Helper()
	err := b.store.Expect(b.t.Context(), &relay.Expectation{
		ExpectedTask: relay.ExpectedTask{Source: "vocals", TaskID: task, API: api, At: time.Now()},
		After:        b.source.Recover.After, Most: relay.MaxExpected,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Rouse("vocals")
}

const wav = "api/v1/wav/generate"

// pass lets time pass, and everything happen that is due by then.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // of the bubble
	synctest.Wait()
}

func (b *bench) questions() []question {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

func (b *bench) task(name string) relay.TaskRecord {
	b.t.Helper()
	tasks, _, err := b.store.Tasks(b.t.Context(), relay.TaskFilter{TaskID: name})
	if err != nil || len(tasks) != 1 {
		b.t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	return tasks[0]
}

func (b *bench) wantCount(result string, want float64) {
	b.t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(b.metrics); err != nil {
		b.t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "caddy_relay_recoveries_total" && m.GetLabel()[0].GetValue() == result && m.GetCounter().GetValue() == want {
				return
			}
		}
	}
	b.t.Errorf("recoveries are not counted as %s", result)
}

func TestIdle(t *testing.T) {
	in(t, func(b *bench) {
		for i := range 200 {
			b.expect(fmt.Sprint("task-", i), wav)
		}
		b.pass(time.Second)
		before := b.calls.Load()
		b.pass(time.Minute)
		if n := b.calls.Load() - before; n > 0 {
			t.Errorf("an idle minute took %d calls of the store", n)
		}
	})
}

func TestPollsUntilThereIsAResult(t *testing.T) {
	in(t, func(b *bench) {
		start := time.Now()
		polls := 0
		b.answer = func(string) string {
			if polls++; polls == 4 {
				return "success 4711"
			}
			return "pending PENDING"
		}
		b.expect("one", wav)
		b.pass(10*time.Minute - time.Second)
		if n := len(b.questions()); n > 0 {
			t.Fatalf("asked %d times before the task was overdue", n)
		}
		b.pass(2 * time.Second)
		if task := b.task("one"); task.State != relay.TaskOverdue || task.Polls != 1 || task.Reason != "PENDING" {
			t.Errorf("task %+v", task)
		}
		b.pass(10 * time.Minute)
		last := start
		asked := b.questions()
		for i, least := range []time.Duration{10 * time.Minute, 30 * time.Second, time.Minute, 2 * time.Minute} {
			if i >= len(asked) {
				t.Fatalf("asked %d times", len(asked))
			}
			if after := asked[i].at.Sub(last); after < least || after > least*6/5+time.Second {
				t.Errorf("poll %d after %v, want %v", i, after, least)
			}
			last = asked[i].at
		}
		if len(asked) != 4 || len(b.taken) != 1 || b.taken[0] != wav+": 4711" || b.task("one").State != relay.TaskRecovered {
			t.Errorf("asked %d times, accepted %q", len(asked), b.taken)
		}
		b.wantCount("recovered", 1)
	})
}

func TestPollsAreSpreadFairly(t *testing.T) {
	in(t, func(b *bench) {
		b.source.Recover.Every = time.Second
		for i := range 60 {
			b.expect(fmt.Sprint("task-", i), wav)
		}
		b.pass(10*time.Minute + 5*time.Second)
		b.pass(20 * time.Second)
		asked := b.questions()
		times := map[string]int{}
		for _, q := range asked {
			times[q.task]++
		}
		if len(asked) < 38 || len(asked) > 51 || len(times) != len(asked) {
			t.Errorf("%d polls of %d tasks in 20 to 25 s", len(asked), len(times))
		}
	})
}

func TestGivesUp(t *testing.T) {
	in(t, func(b *bench) {
		b.source.Recover.For = time.Hour
		b.expect("one", wav)
		b.pass(time.Hour - time.Minute)
		if task := b.task("one"); task.State != relay.TaskOverdue {
			t.Fatalf("task %+v", task)
		}
		b.pass(2 * time.Minute)
		if task := b.task("one"); task.State != relay.TaskGivenUp || !strings.Contains(task.Reason, "PENDING") {
			t.Fatalf("task %+v", task)
		}
		n := len(b.questions())
		b.pass(30 * time.Minute)
		if len(b.questions()) != n {
			t.Error("asked after it was given up")
		}
		b.wantCount("given_up", 1)
		if n := strings.Count(b.logged.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors were logged: %s", n, &b.logged)
		}
	})
}

func TestGivesUpWhatHasNoDetails(t *testing.T) {
	in(t, func(b *bench) {
		b.expect("one", "api/v1/unknown")
		b.pass(11 * time.Minute)
		if task := b.task("one"); task.State != relay.TaskGivenUp || !strings.Contains(task.Reason, "api/v1/unknown") {
			t.Errorf("task %+v", task)
		}
		if n := len(b.questions()); n > 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestRefused(t *testing.T) {
	in(t, func(b *bench) {
		b.says("refused 401 You do not have access")
		b.expect("one", wav)
		b.expect("two", wav)
		b.pass(12 * time.Minute)
		if task := b.task("one"); task.Reason != "401 You do not have access" || task.State != relay.TaskOverdue {
			t.Errorf("task %+v", task)
		}
		b.pass(time.Hour)
		if n := len(b.questions()); n < 6 || n > 10 {
			t.Errorf("two tasks were asked for %d times in an hour", n)
		}
		if n := strings.Count(b.logged.String(), "refused"); n != 1 {
			t.Errorf("logged %d times: %s", n, &b.logged)
		}
	})
}

func TestBacksOffForTheWholeSource(t *testing.T) {
	in(t, func(b *bench) {
		b.says("")
		for i := range 100 {
			b.expect(fmt.Sprint("task-", i), wav)
		}
		b.pass(11 * time.Minute)
		if n := len(b.questions()); n > 10 {
			t.Errorf("asked %d times in the first minute of an outage", n)
		}
		if task := b.task(b.questions()[0].task); !strings.Contains(task.Reason, "nobody answers") {
			t.Errorf("task %+v", task)
		}
		b.says("pending PENDING")
		b.pass(2 * time.Minute)
		before := len(b.questions())
		b.pass(10 * time.Second)
		if n := len(b.questions()) - before; n < 10 {
			t.Errorf("asked %d times in 10 s once the provider answers again", n)
		}
	})
}

func TestTriesAgainWhatCannotBeAccepted(t *testing.T) {
	in(t, func(b *bench) {
		tries := 0
		b.accept = func(string) (Accepted, error) {
			if tries++; tries < 3 {
				return Accepted{}, relay.ErrUnavailable
			}
			return Accepted{Result: relay.Accepted}, nil
		}
		b.says("failed 501")
		b.expect("one", wav)
		b.pass(20 * time.Minute)
		if tries != 3 || b.task("one").State != relay.TaskRecovered {
			t.Errorf("%d tries, %+v", tries, b.task("one"))
		}
		b.wantCount("failed", 1)
	})
}

func TestReasonsAreBounded(t *testing.T) {
	in(t, func(b *bench) {
		b.accept = func(string) (Accepted, error) { return Accepted{}, errors.New(strings.Repeat("no", 1000)) }
		b.says("success")
		b.expect("one", wav)
		b.pass(11 * time.Minute)
		if reason := b.task("one").Reason; len(reason) != maxReason || !strings.HasPrefix(reason, "the result cannot be accepted: no") {
			t.Errorf("%d bytes: %s", len(reason), reason)
		}
	})
}

func TestAReloadEndsAndBeginsPolls(t *testing.T) {
	in(t, func(b *bench) {
		b.expect("one", wav)
		b.Configure(nil)
		b.pass(15 * time.Minute)
		if n := len(b.questions()); n > 0 {
			t.Errorf("asked %d times for a source that has gone", n)
		}
		b.Configure(map[string]*relay.Source{"vocals": b.source})
		b.pass(time.Second)
		if n := len(b.questions()); n != 1 {
			t.Errorf("asked %d times after it was back", n)
		}
	})
}
