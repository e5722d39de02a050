package engine_test

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/signer"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestCallbackReachesEveryDestination(t *testing.T) {
	a, b := newConsumer(t, nil), newConsumer(t, nil)
	signer, err := signer.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "")
	if err != nil {
		t.Fatal(err)
	}
	first, second := destination(t, "a", a.URL+"/hook?x=1"), destination(t, "b", b.URL)
	first.Header = http.Header{"X-Team": {"audio"}, "Host": {"consumer.internal"}}
	first.Signer = signer
	g := newGateway(t, first, second)

	id := g.mustAccept("task-1")
	got := a.next(t)
	if want := `{"code":200,"msg":"ok","data":{"task_id":"task-1","vocal_removal_info":{"vocal_url":"https://f.example/v.mp3"}}}`; got.body != want {
		t.Errorf("body is %s", got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "caddy-relay/test", "Webhook-Id": id, "Relay-Source": "vocals",
		"Relay-Task-Id": "task-1", "Relay-Attempt": "1", "Relay-Replay": "", "X-Team": "audio",
	} {
		if got.header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	for _, name := range []string{"Webhook-Timestamp", "Webhook-Signature", "Traceparent"} {
		if got.header.Get(name) == "" {
			t.Errorf("header %s is missing", name)
		}
	}
	if other := b.next(t); other.body != got.body || other.header.Get("Webhook-Signature") != "" {
		t.Errorf("the second destination got %v", other)
	}
	d := g.awaitState(id, "a", relay.StateDelivered)
	if len(d.Attempts) != 1 || d.Attempts[0].Status != http.StatusOK {
		t.Errorf("attempts are %+v", d.Attempts)
	}

	w := g.send(callback("task-1"))
	if w.Code != http.StatusOK || w.Header().Get("Relay-Duplicate") != "true" || w.Header().Get("Relay-Event-Id") != id {
		t.Errorf("the duplicate was answered %d %v", w.Code, w.Header())
	}
	g.awaitState(id, "b", relay.StateDelivered)
	if a.count() != 1 || b.count() != 1 {
		t.Errorf("delivered %d and %d times", a.count(), b.count())
	}
}

func TestRetriesUntilDelivered(t *testing.T) {
	c := newConsumer(t, func(n int, _ *http.Request) int { return []int{500, 302, 200}[n-1] })
	dst := destination(t, "a", c.URL)
	dst.Retry = retries(10*time.Millisecond, 10*time.Millisecond)
	g := newGateway(t, dst)
	id := g.mustAccept("task-1")
	for n := 1; n <= 3; n++ {
		if got := c.next(t).header.Get("Relay-Attempt"); got != strconv.Itoa(n) {
			t.Errorf("attempt %d calls itself %s", n, got)
		}
	}
	d := g.awaitState(id, "a", relay.StateDelivered)
	var statuses []int
	for _, a := range d.Attempts {
		statuses = append(statuses, a.Status)
	}
	if !slices.Equal(statuses, []int{500, 302, 200}) {
		t.Errorf("attempts were answered %v", statuses)
	}
}

func TestPermanentStatusIsADeadLetterAtOnce(t *testing.T) {
	c := newConsumer(t, func(int, *http.Request) int { return http.StatusGone })
	g := newGateway(t, destination(t, "a", c.URL))
	id := g.mustAccept("task-1")
	if d := g.awaitState(id, "a", relay.StateDead); len(d.Attempts) != 1 {
		t.Errorf("attempts are %+v", d.Attempts)
	}
}

func TestDeadLettersStayAndAreRedriven(t *testing.T) {
	var up atomic.Bool
	c := newConsumer(t, func(int, *http.Request) int {
		if up.Load() {
			return 200
		}
		return 503
	})
	dst := destination(t, "a", c.URL)
	dst.Retry, dst.Breaker = retries(time.Millisecond), relay.BreakerPolicy{}
	g := newGateway(t, dst)
	var dead []relay.DeadLetter
	var mu sync.Mutex
	settings := g.settings()
	settings.OnDeadLetter = func(d relay.DeadLetter) {
		mu.Lock()
		defer mu.Unlock()
		dead = append(dead, d)
	}
	g.Push(settings)
	ids := []string{g.mustAccept("task-1"), g.mustAccept("task-2")}
	for _, id := range ids {
		g.awaitState(id, "a", relay.StateDead)
	}
	letters, next, err := g.DeadLetters(context.Background(), relay.Selection{Source: "vocals"}, 10, "")
	if err != nil || len(letters) != 2 || next != "" || letters[0].LastStatus != 503 || letters[0].Attempts != 2 {
		t.Errorf("dead letters %+v, next %q, error %v", letters, next, err)
	}
	g.await("the hook has told of both", func() bool { mu.Lock(); defer mu.Unlock(); return len(dead) == 2 })

	up.Store(true)
	n, err := g.Redrive(context.Background(), relay.Selection{Source: "vocals", Destination: "a"}, 0)
	if n != 2 || err != nil {
		t.Errorf("redriven %d, error %v", n, err)
	}
	for _, id := range ids {
		if d := g.awaitState(id, "a", relay.StateDelivered); d.Replay != 1 {
			t.Errorf("replay number is %d", d.Replay)
		}
	}
	if n, err := g.Redrive(context.Background(), relay.Selection{}, 0); n != 0 || err != nil {
		t.Errorf("redriven once more: %d, error %v", n, err)
	}
}

// A destination that refuses connections is held: nothing becomes a dead letter, and all arrive after it is back.
func TestHeldDestinationLosesNothing(t *testing.T) {
	for name, waiting := range map[string]int{"one": 1, "hundred": 100} {
		t.Run(name, func(t *testing.T) {
			var up atomic.Bool
			c := newConsumer(t, nil)
			dst := destination(t, "a", c.URL)
			dst.Retry = retries(time.Millisecond, time.Millisecond, time.Millisecond)
			dst.Breaker = relay.BreakerPolicy{Failures: 3, Probe: 10 * time.Millisecond}
			var probes atomic.Int64
			dst.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if !up.Load() {
					probes.Add(1)
					return nil, context.Canceled
				}
				return http.DefaultTransport.RoundTrip(r)
			})
			t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
			g := newGateway(t, dst)
			var ids []string
			for i := range waiting {
				ids = append(ids, g.mustAccept("task-"+strconv.Itoa(i)))
			}
			g.await("the destination is held", func() bool { return g.DisplayStates()("vocals", "a") == relay.StateHeld })
			before := probes.Load()
			g.await("many probes have failed", func() bool { return probes.Load() > before+10 })
			if letters, _, err := g.DeadLetters(context.Background(), relay.Selection{}, 10, ""); len(letters) > 0 || err != nil {
				t.Fatalf("dead letters %v, error %v", letters, err)
			}
			up.Store(true)
			for _, id := range ids {
				g.awaitState(id, "a", relay.StateDelivered)
			}
			if c.count() != waiting {
				t.Errorf("%d deliveries for %d events", c.count(), waiting)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A destination that hangs costs another nothing, and has no more in flight than it may.
func TestLanesAreBulkheads(t *testing.T) {
	release := make(chan struct{})
	var hanging, most atomic.Int64
	slow := newConsumer(t, func(int, *http.Request) int {
		n := hanging.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		hanging.Add(-1)
		return 200
	})
	fast := newConsumer(t, nil)
	a, b := destination(t, "slow", slow.URL), destination(t, "fast", fast.URL)
	a.MaxInFlight = 2
	g := newGateway(t, a, b)
	for i := range 20 {
		g.mustAccept("task-" + strconv.Itoa(i))
	}
	for range 20 {
		fast.next(t)
	}
	if hanging.Load() > 2 {
		t.Errorf("%d in flight, 2 are allowed", hanging.Load())
	}
	close(release)
	for range 20 {
		slow.next(t)
	}
	if most.Load() > 2 {
		t.Errorf("%d were in flight at once, 2 are allowed", most.Load())
	}
}

func TestOrderOfATask(t *testing.T) {
	var failed atomic.Bool
	c := newConsumer(t, func(_ int, r *http.Request) int {
		if failed.CompareAndSwap(false, true) {
			return 500
		}
		return 200
	})
	dst := destination(t, "a", c.URL)
	dst.OrderTask, dst.Retry = true, retries(30*time.Millisecond)
	g := newGateway(t, dst)
	stages := []string{"text", "first", "complete"}
	for _, stage := range stages {
		w := g.send(callbackOf(`{"code":200,"data":{"callbackType":"` + stage + `","task_id":"song"}}`))
		if w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	var got []string
	for range 4 {
		got = append(got, c.next(t).body)
	}
	for i, stage := range []string{"text", "text", "first", "complete"} {
		if want := `{"code":200,"data":{"callbackType":"` + stage + `","task_id":"song"}}`; got[i] != want {
			t.Errorf("delivery %d is %s, want %s", i+1, got[i], want)
		}
	}
}

func TestRateSpacesDeliveries(t *testing.T) {
	c := newConsumer(t, nil)
	dst := destination(t, "a", c.URL)
	dst.Rate = 50
	g := newGateway(t, dst)
	begun := time.Now() // and not the first arrival, which may be late
	for i := range 11 {
		g.mustAccept("task-" + strconv.Itoa(i))
	}
	var last time.Time
	for range 11 {
		last = c.next(t).at
	}
	if took := last.Sub(begun); took < 199*time.Millisecond {
		t.Errorf("11 deliveries at 50 a second took %v", took)
	}
}

func TestPauseAndResume(t *testing.T) {
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL))
	if err := g.Pause(context.Background(), "vocals", "a", true); err != nil {
		t.Fatal(err)
	}
	id := g.mustAccept("task-1")
	if got := g.DisplayStates()("vocals", "a"); got != relay.StatePaused {
		t.Errorf("display state is %q", got)
	}
	if d := g.delivery(id, "a"); d.State != relay.StatePending || c.count() != 0 {
		t.Errorf("state is %s, delivered %d times", d.State, c.count())
	}
	if err := g.Pause(context.Background(), "vocals", "a", false); err != nil {
		t.Fatal(err)
	}
	g.awaitState(id, "a", relay.StateDelivered)
}

func TestExpire(t *testing.T) {
	c := newConsumer(t, nil)
	dst := destination(t, "a", c.URL)
	dst.Expire = 100 * time.Millisecond
	g := newGateway(t, dst)
	if err := g.Pause(context.Background(), "vocals", "a", true); err != nil {
		t.Fatal(err)
	}
	id := g.mustAccept("task-1")
	if d := g.awaitState(id, "a", relay.StateDead); d.Reason != relay.ErrExpired.Error() {
		t.Errorf("reason is %q", d.Reason)
	}
}

func TestReplay(t *testing.T) {
	a, b := newConsumer(t, nil), newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", a.URL), destination(t, "b", b.URL))
	id := g.mustAccept("task-1")
	g.awaitState(id, "a", relay.StateDelivered)
	g.awaitState(id, "b", relay.StateDelivered)
	a.next(t)
	replayed, skipped, err := g.Replay(context.Background(), id, []string{"a"}, 0)
	if replayed != 1 || skipped != 0 || err != nil {
		t.Fatalf("replayed %d, skipped %d, error %v", replayed, skipped, err)
	}
	got := a.next(t)
	if got.header.Get("Relay-Replay") != "1" || got.header.Get("Webhook-Id") != id {
		t.Errorf("replayed with headers %v", got.header)
	}
	g.awaitState(id, "a", relay.StateDelivered)
	if b.count() != 1 {
		t.Errorf("the other destination got %d", b.count())
	}
}

func TestConflictIsKeptAsAVariant(t *testing.T) {
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL))
	id := g.mustAccept("task-1")
	c.next(t)
	const other = `{"code":200,"data":{"task_id":"task-1","vocal_removal_info":{"vocal_url":"https://elsewhere.example/v.mp3"}}}`
	w := g.send(callbackOf(other))
	if w.Code != 200 || w.Header().Get("Relay-Event-Id") != id || w.Header().Get("Relay-Duplicate") != "true" {
		t.Errorf("the conflict was answered %d %v", w.Code, w.Header())
	}
	rec, err := g.Event(context.Background(), id)
	if err != nil || len(rec.Variants) != 1 || string(rec.Variants[0].Body) != other {
		t.Fatalf("variants %+v, error %v", rec.Variants, err)
	}
	g.awaitState(id, "a", relay.StateDelivered)
	if _, _, err := g.Replay(context.Background(), id, nil, 1); err != nil {
		t.Fatal(err)
	}
	if got := c.next(t); got.body != other {
		t.Errorf("the replayed variant is %s", got.body)
	}
}

// The answer that opens the breaker counts like any other; those that come while it is open do not, and a destination that
// asks for patience is not probed before.
func TestAnswersAroundTheBreaker(t *testing.T) {
	var logged logLines
	c := newConsumer(t, func(int, *http.Request) int { return http.StatusServiceUnavailable })
	dst := destination(t, "a", c.URL)
	dst.Retry, dst.MaxInFlight = relay.RetryPolicy{}, 1
	dst.Breaker = relay.BreakerPolicy{Failures: 2, Probe: 10 * time.Millisecond}
	g := newGateway(t, dst)
	s := g.settings()
	s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	g.Push(s)
	first, second, third := g.mustAccept("task-1"), g.mustAccept("task-2"), g.mustAccept("task-3")
	g.awaitState(first, "a", relay.StateDead)
	g.awaitState(second, "a", relay.StateDead)
	g.await("the third is probed", func() bool { return c.count() > 5 })
	g.awaitState(third, "a", relay.StatePending)
	if failed, dead := logged.count("attempt failed", first), logged.count("given up", first); failed != 1 || dead != 1 {
		t.Errorf("one attempt that failed made %d lines, and its dead letter %d", failed, dead)
	}
	if pauses := logged.count("attempt failed", "retry_in"); pauses > 0 {
		t.Errorf("%d attempts that were probes, or the last ones, log a pause", pauses)
	}

	patient := newConsumer(t, func(int, *http.Request) int { return http.StatusServiceUnavailable })
	patient.retryAfter = "3000"
	dst = destination(t, "a", patient.URL)
	dst.Breaker = relay.BreakerPolicy{Failures: 1, Probe: 10 * time.Millisecond}
	g = newGateway(t, dst)
	g.mustAccept("task-1")
	g.await("the destination is held", func() bool { return g.Status(t.Context()).Destinations[0].State == "held" })
	if next := g.Status(t.Context()).Destinations[0].Breaker.NextProbe; next == nil || time.Until(*next) < 40*time.Minute {
		t.Errorf("a destination that asks for 50 minutes is probed at %v", next)
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// count counts the lines with all of the texts.
func (l *logLines) count(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for _, line := range l.lines {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		n++
	}
	return n
}
