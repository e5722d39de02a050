package integration

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

// lifeSpeed is how many times faster than the provider's the tests' time passes: it calls again after 1, 5 and 15 seconds.
const lifeSpeed = 60

// lifeKinds are the kinds of tasks that are submitted by turns, each through the source of its like: the gateway asks about
// two tasks of a source a second.
var lifeKinds = []struct{ source, api string }{
	{"music", "generate"},
	{"vocals", "vocal-removal/generate"},
	{"market", "jobs/createTask"},
	{"audio", "wav/generate"},
	{"texts", "lyrics"},
	{"images", "suno/cover/generate"},
	{"videos", "veo/generate"},
	{"music", "generate/extend"},
	{"audio", "mp4/generate"},
	{"texts", "midi/generate"},
	{"images", "flux/kontext/generate"},
	{"videos", "runway/generate"},
	{"vocals", "vocal-removal/generate"},
	{"market", "jobs/createTask"},
	{"texts", "voice/validate"},
	{"images", "gpt4o-image/generate"},
	{"videos", "aleph/generate"},
	{"videos", "modify/generate"},
}

// lifeFate decides what becomes of the nth task. A failure is as likely in each way of calling back.
func lifeFate(n uint64) fakeprovider.Fate {
	called := fakeprovider.Odds{Never: 0.3, Twice: 0.2, Late: 0.1, LateBy: 6 * time.Second * lifeSpeed}
	fate := called.Fates(1)(n)
	fate.Code = fakeprovider.Odds{Fail: 0.05}.Fates(2)(n).Code
	return fate
}

// life holds tasks on their way from their submission through the gateways to the consumers.
type life struct {
	t         *testing.T
	gateways  []*gateway
	provider  *fakeprovider.Server
	consumers map[string]*consumer
	client    *http.Client // reaches whichever gateway is up, as through a load balancer

	mu         sync.Mutex
	answered   map[string]bool // tasks whose id the application has been told
	unanswered int             // submissions of which nobody knows what came of them
	slowest    time.Duration
}

func newLife(t *testing.T, gateways ...*gateway) *life {
	t.Helper()
	l := &life{
		t: t, gateways: gateways, answered: map[string]bool{},
		consumers: map[string]*consumer{"billing": newConsumer(t), "library": newConsumer(t)},
	}
	var turn atomic.Int32
	l.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true, // a connection that is kept stays with one gateway
		DialContext: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
			first := int(turn.Add(1))
			for i := range gateways {
				conn, err = new(net.Dialer).DialContext(ctx, network, gateways[(first+i)%len(gateways)].address)
				if err == nil {
					break
				}
			}
			return conn, err
		},
	}}
	var err error
	l.provider, err = fakeprovider.Start(fakeprovider.Options{
		Speed: lifeSpeed, Delay: lifeSpeed * time.Second / 2, FileSize: 4 << 10, Client: l.client,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.provider.Close)
	return l
}

// site has leases as short as they can be, as redisSite has.
func (l *life) site() string {
	var site strings.Builder
	known := map[string]bool{}
	for _, kind := range lifeKinds {
		if known[kind.source] {
			continue
		}
		known[kind.source] = true
		fmt.Fprintf(&site, "relay /callbacks/%[1]s %[1]s {\n", kind.source)
		for name, c := range l.consumers {
			fmt.Fprintf(&site, "to %s %s {\n timeout 1s\n breaker off\n retry exponential 100ms 1s 100\n}\n", name, c.URL())
		}
		fmt.Fprintf(&site, `recover {
				base %[2]s
				after 1s
				every 1s
			}
		}
		handle_path /%[1]s/* {
			relay_submit %[1]s {
				callback_url https://localhost/callbacks/%[1]s
			}
			reverse_proxy %[2]s
		}
		`, kind.source, l.provider.URL)
	}
	return site.String()
}

func (l *life) start() {
	l.t.Helper()
	for _, g := range l.gateways {
		g.start(l.site())
	}
}

// submit submits tasks at a steady rate, and returns what waits until each was answered.
func (l *life) submit(tasks, perSecond int) (wait func()) {
	var working sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	l.t.Cleanup(func() {
		cancel()
		working.Wait()
	})
	working.Go(func() {
		paced, stop := context.WithCancel(ctx)
		defer stop()
		pace(paced, "", perSecond, func(n int, _ string) {
			if n >= tasks {
				stop()
				return
			}
			working.Go(func() { l.insist(ctx, n) })
		})
	})
	return working.Wait
}

// insist submits a task until there is one.
func (l *life) insist(ctx context.Context, n int) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !l.submitOne(n) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *life) submitOne(n int) bool {
	kind := lifeKinds[n%len(lifeKinds)]
	body, err := json.Marshal(map[string]any{"prompt": fmt.Sprint("task ", n), "fate": lifeFate(uint64(n))})
	if err != nil {
		l.t.Error(err)
		return true
	}
	req, err := http.NewRequest(http.MethodPost, "https://localhost/"+kind.source+"/api/v1/"+kind.api, strings.NewReader(string(body)))
	if err != nil {
		l.t.Error(err)
		return true
	}
	req.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	a, err := send(l.client, req)
	var told struct {
		Code int                     `json:"code"`
		Data struct{ TaskID string } `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(a.body), &told)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || told.Code != http.StatusOK {
		l.unanswered++
		return false
	}
	l.answered[told.Data.TaskID] = true
	l.slowest = max(l.slowest, time.Since(begun))
	return true
}

// lifeTasks returns how many tasks a test submits, and at what rate: 100 unless RELAY_LIFE_TASKS says otherwise. Of more, no
// more come due in a second than are asked about.
func lifeTasks(t *testing.T) (tasks, perSecond int) {
	t.Helper()
	text := cmp.Or(os.Getenv("RELAY_LIFE_TASKS"), "100")
	tasks, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if tasks > 200 {
		return tasks, 20
	}
	return tasks, 50
}

// lifeWithin is how long after the last submission all tasks must have ended. Who is killed while it asks about a task leaves
// that to others for 74 seconds.
const lifeWithin = 3 * time.Minute

// kills ends and restarts the gateways in turn while the tasks are on their way.
func (l *life) kills(times, tasks, perSecond int) {
	l.t.Helper()
	every := max(time.Second, time.Duration(tasks/perSecond)*time.Second/time.Duration(times))
	tick := time.NewTicker(every)
	defer tick.Stop()
	for k := range times {
		<-tick.C
		g := l.gateways[k%len(l.gateways)]
		g.kill()
		g.start(l.site())
	}
}

// TestLife follows tasks from their submission to both consumers, though many are never called back, or late, or twice.
func TestLife(t *testing.T) {
	t.Parallel()
	l := newLife(t, newGateway(t))
	l.start()
	l.submit(lifeTasks(t))()
	l.end(0)
}

// TestLifeKill is TestLife with a gateway that is killed five times.
func TestLifeKill(t *testing.T) {
	t.Parallel()
	l := newLife(t, newGateway(t))
	l.start()
	tasks, perSecond := lifeTasks(t)
	submitted := l.submit(tasks, perSecond)
	l.kills(5, tasks, perSecond)
	submitted()
	l.end(5)
}

// TestLifeRedis is TestLife with two gateways on one Redis, which are killed in turn.
func TestLifeRedis(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	l := newLife(t, r.gateway(t), r.gateway(t))
	l.start()
	tasks, perSecond := lifeTasks(t)
	submitted := l.submit(tasks, perSecond)
	l.kills(5, tasks, perSecond)
	submitted()
	l.end(5)
}

// TestLifeStoreAway submits tasks while Redis is away: the spool takes their registrations and those callbacks that come, and
// the tasks are recovered once Redis is back.
func TestLifeStoreAway(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	g := r.gateway(t)
	l := newLife(t, g)
	l.start()
	r.signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	tasks, perSecond := lifeTasks(t)
	l.submit(tasks, perSecond)()
	if n := g.status().Spool.Events; n < tasks {
		t.Errorf("the spool has %d items of %d tasks", n, tasks)
	}
	if l.unanswered > 0 || l.slowest > 7*time.Second {
		t.Errorf("%d submissions were not answered, the slowest took %s", l.unanswered, l.slowest)
	}
	r.start()
	l.end(0)
	if s := g.status().Spool; s.Events+s.Stuck > 0 {
		t.Errorf("the spool is %+v", s)
	}
}
