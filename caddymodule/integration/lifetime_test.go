package integration

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
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

// fate decides what becomes of the nth task. A failure is as likely in each way of calling back.
func (s lifeScale) fate(n uint64) fakeprovider.Fate {
	called := fakeprovider.Odds{Never: 0.3, Twice: 0.2, Late: 0.1, LateBy: s.late() * lifeSpeed}
	fate := called.Fates(1)(n)
	fate.Code = fakeprovider.Odds{Fail: 0.05}.Fates(2)(n).Code
	return fate
}

// life holds tasks on their way from their submission through the gateways to the consumers.
type life struct {
	t         *testing.T
	scale     lifeScale
	gateways  []*gateway
	provider  *fakeprovider.Server
	consumers map[string]*consumer
	archive   string       // the folder of the files
	client    *http.Client // reaches whichever gateway is up, as through a load balancer

	mu         sync.Mutex
	answered   map[string]bool // tasks whose id the application has been told
	unanswered int             // submissions of which nobody knows what came of them
	slowest    time.Duration
	files      int // that were found in the archive
}

func newLife(t *testing.T, scale lifeScale, gateways ...*gateway) *life {
	t.Helper()
	l := &life{
		t: t, scale: scale, gateways: gateways, archive: t.TempDir(), answered: map[string]bool{},
		consumers: map[string]*consumer{"billing": newConsumer(t), "library": newConsumer(t)},
	}
	var addresses []string
	for _, g := range gateways {
		addresses = append(addresses, g.address)
	}
	l.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true, // a connection that is kept stays with one gateway
		DialContext:       servers.DialAny(addresses...),
	}}
	var err error
	l.provider, err = fakeprovider.Start(fakeprovider.Options{
		Speed: lifeSpeed, Delay: lifeSpeed * scale.delay, FileSize: 4 << 10, Client: l.client,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.provider.Close)
	return l
}

// lifeArchive is where the files are said to be that the consumer library gets.
const lifeArchive = "https://archive.example.com"

// site has leases as short as they can be, as redisSite has. The consumer library waits for the archived files, and gets their
// URLs; billing waits for those of vocals and images alone.
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
			body := map[string]string{"library": "archived"}[name]
			fmt.Fprintf(&site, "to %s %s {\n timeout 1s\n breaker off\n retry exponential 100ms 1s 100\n body %s\n}\n", name, c.URL(), cmp.Or(body, "original"))
		}
		before := map[string]string{"vocals": "before_delivery", "images": "before_delivery"}[kind.source]
		fmt.Fprintf(&site, `archive file %[3]s {
				hosts 127.0.0.1
				insecure
				timeout 1s
				retry exponential 100ms 1s 100
				url_prefix %[4]s
				%[5]s
			}
			recover {
				base %[2]s
				after %[6]s
				every 1s
			}
		}
		handle_path /%[1]s/* {
			relay_submit %[1]s {
				callback_url https://localhost/callbacks/%[1]s
			}
			reverse_proxy %[2]s
		}
		`, kind.source, l.provider.URL, l.archive, lifeArchive, before, l.scale.after())
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
func (l *life) submit() (wait func()) {
	var working sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	l.t.Cleanup(func() {
		cancel()
		working.Wait()
	})
	working.Go(func() {
		paced, stop := context.WithCancel(ctx)
		defer stop()
		pace(paced, "", l.scale.perSecond, func(n int, _ string) {
			if n >= l.scale.tasks {
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
	again := time.NewTicker(100 * time.Millisecond)
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
	body, err := json.Marshal(map[string]any{"prompt": fmt.Sprint("task ", n), "fate": l.scale.fate(uint64(n))})
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

// lifeScale sets how large a test is.
type lifeScale struct {
	tasks, perSecond, kills int
	delay                   time.Duration // from a submission to its result
}

// after is when the details are asked, and late how much later than its result a late callback is.
func (s lifeScale) after() time.Duration { return s.delay + time.Second/2 }
func (s lifeScale) late() time.Duration  { return s.delay + 5*time.Second }

// newLifeScale returns the scale of 100 tasks, unless RELAY_LIFE_TASKS sets another number. Of more, no more come due in a
// second than are asked about. What a killed gateway was doing others take over half a minute later, or, where it asked about
// a task, 74 seconds: on the small scale, gateways are killed before the results are there.
func newLifeScale(t *testing.T, kills int) lifeScale {
	t.Helper()
	tasks, err := strconv.Atoi(cmp.Or(os.Getenv("RELAY_LIFE_TASKS"), "100"))
	if err != nil {
		t.Fatal(err)
	}
	if tasks > 200 {
		return lifeScale{tasks, 20, kills, time.Second / 2}
	}
	kills = min(kills, 2)
	return lifeScale{tasks, 50, kills, time.Second/2 + time.Duration(kills)*time.Second}
}

// lifeWithin is how long after the last submission all tasks must have ended.
const lifeWithin = 3 * time.Minute

// killWhile submits the tasks, and ends and restarts the gateways in turn meanwhile.
func (l *life) killWhile() {
	l.t.Helper()
	submitted := l.submit()
	during := time.Duration(l.scale.tasks/l.scale.perSecond) * time.Second
	tick := time.NewTicker(during / time.Duration(l.scale.kills+1))
	defer tick.Stop()
	for k := range l.scale.kills {
		<-tick.C
		g := l.gateways[k%len(l.gateways)]
		g.kill()
		g.start(l.site())
	}
	submitted()
	l.end()
}

// TestLife follows tasks from their submission to both consumers and the archive, though many are never called back, or late, or
// twice.
func TestLife(t *testing.T) {
	t.Parallel()
	l := newLife(t, newLifeScale(t, 0), newGateway(t))
	l.start()
	l.submit()()
	l.end()
}

// TestLifeKill is TestLife with a gateway that is killed again and again.
func TestLifeKill(t *testing.T) {
	t.Parallel()
	l := newLife(t, newLifeScale(t, 5), newGateway(t))
	l.start()
	l.killWhile()
}

// TestLifeRedis is TestLife with two gateways on one Redis, which are killed in turn.
func TestLifeRedis(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	l := newLife(t, newLifeScale(t, 5), r.gateway(t), r.gateway(t))
	l.start()
	l.killWhile()
}

// TestLifeStoreAway submits tasks while Redis is away: the spool takes their registrations and those callbacks that come, and
// the tasks are recovered once Redis is back.
func TestLifeStoreAway(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	g := r.gateway(t)
	l := newLife(t, newLifeScale(t, 0), g)
	l.start()
	if err := r.Stop(patience); err != nil {
		t.Fatal(err)
	}
	l.submit()()
	if n := g.status().Spool.Events; n < l.scale.tasks {
		t.Errorf("the spool has %d items of %d tasks", n, l.scale.tasks)
	}
	if l.unanswered > 0 || l.slowest > 7*time.Second {
		t.Errorf("%d submissions were not answered, the slowest took %s", l.unanswered, l.slowest)
	}
	r.start()
	l.end()
	if s := g.status().Spool; s.Events+s.Stuck > 0 {
		t.Errorf("the spool is %+v", s)
	}
}
