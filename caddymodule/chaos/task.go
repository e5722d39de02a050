package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

const (
	// tasksPerSecond is how many tasks are submitted: no more than a source asks about.
	tasksPerSecond = 2
	// registeredWithin is how long an answer waits for the registration of its task, at most, before it passes without.
	registeredWithin = 4500 * time.Millisecond
	// archiveURL is where the archived files are said to be.
	archiveURL = "https://archive.example.com"
)

// tasks is the provider, with what was submitted to it through the gateways.
type tasks struct {
	provider *fakeprovider.Server
	client   *http.Client // reaches whichever gateway is up, as through a load balancer
	archive  string       // the folder of the files

	mu       sync.Mutex
	expected map[string]bool // tasks whose registration was waited for
}

// newTasks starts the provider. A third of its tasks are never called back, or late, or twice.
func newTasks(gateways []*gateway, dir string, seed uint64) (*tasks, error) {
	archive := filepath.Join(dir, "archive")
	if err := os.MkdirAll(archive, 0o700); err != nil {
		return nil, err
	}
	var addresses []string
	for _, g := range gateways {
		addresses = append(addresses, g.address)
	}
	t := &tasks{archive: archive, expected: map[string]bool{}, client: &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, // a connection that is kept stays with one gateway
		DialContext:       servers.DialAny(addresses...),
	}}}
	const speed = 60 // a callback that was not taken comes again after 1, 5 and 15 seconds
	var err error
	t.provider, err = fakeprovider.Start(fakeprovider.Options{
		Seed: seed, Speed: speed, Delay: speed * time.Second, FileSize: 4 << 10, Client: t.client,
		Fate: fakeprovider.Odds{Never: 0.2, Twice: 0.1, Late: 0.05, LateBy: speed * 5 * time.Second}.Fates(seed),
	})
	return t, err
}

// site returns the directives of the source and of submissions.
func (t *tasks) site(g *gateway, destination string) string {
	return fmt.Sprintf(`	relay /%[1]s %[1]s {
		ack_within %[2]s
%[3]s		archive file %[4]s {
			hosts 127.0.0.1
			insecure
			timeout 1s
			retry exponential 100ms 1s 1000
			url_prefix %[5]s
		}
		recover {
			base %[6]s
			after 3s
			every 1s
		}
	}
	handle_path /submit/* {
		relay_submit %[1]s {
			callback_url http://%[7]s/%[1]s
		}
		reverse_proxy %[6]s
	}
`, tasksSource, ackWithin, destination, t.archive, archiveURL, t.provider.URL, g.address)
}

// run submits tasks until ctx ends.
func (t *tasks) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second / tasksPerSecond)
	defer ticker.Stop()
	var submitting sync.WaitGroup
	defer submitting.Wait()
	for {
		select {
		case <-ticker.C:
			submitting.Go(t.submit)
		case <-ctx.Done():
			return
		}
	}
}

// submit submits a task once. It may be known to the provider alone.
func (t *tasks) submit() {
	begun := time.Now()
	resp, err := t.client.Post("http://gateway/submit/api/v1/vocal-removal/generate", "application/json", bytes.NewReader([]byte(`{"prompt":"chaos"}`)))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var told struct {
		Code int
		Data struct{ TaskID string }
	}
	if json.NewDecoder(resp.Body).Decode(&told) != nil || told.Code != http.StatusOK || time.Since(begun) > registeredWithin {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expected[told.Data.TaskID] = true
}

// left returns an error that names what is still expected.
func (t *tasks) left(ctx context.Context, g *gateway) error {
	s, err := g.status(ctx)
	if err != nil {
		return err
	}
	for _, source := range s.Sources {
		if c := source.Tasks; c != nil && c.Expected+c.Overdue > 0 {
			return fmt.Errorf("source %s still expects %+v", source.Name, *c)
		}
	}
	for _, p := range t.provider.Tasks() {
		if n := len(p.Callbacks); !p.Fate.Never && (n == 0 || p.Callbacks[n-1].Status != http.StatusOK && n <= len(fakeprovider.Retries)) {
			return fmt.Errorf("the provider has not called back about task %s", p.ID)
		}
	}
	return nil
}

// check checks that each task became one event, and that all of its files are in the archive. A task that was never called back counts
// only if its registration was waited for, and one that was, only if some callback of it was taken or it was registered.
func (t *tasks) check(ctx context.Context, w *world, events map[string]stored) {
	byTask := map[string][]string{}
	for id, e := range events {
		if e.source == tasksSource {
			byTask[e.task] = append(byTask[e.task], id)
		}
	}
	for _, p := range t.provider.Tasks() {
		taken := t.expected[p.ID]
		for _, c := range p.Callbacks {
			taken = taken || c.Status == http.StatusOK
		}
		if ids := byTask[p.ID]; len(ids) == 0 && taken {
			w.ledger.violates("lost", "task %s (%+v, called back %+v) became no event", p.ID, p.Fate, p.Callbacks)
		} else if len(ids) > 0 {
			t.checkFiles(ctx, w, p, ids[0])
		}
	}
}

// checkFiles checks that the files of a task are in the archive.
func (t *tasks) checkFiles(ctx context.Context, w *world, p fakeprovider.Task, id string) {
	var e api.Event
	if _, err := w.gateways[0].call(ctx, http.MethodGet, api.EventPath(id), nil, &e); err != nil || e.EventDetails == nil {
		w.ledger.violates("lost", "event %s of task %s cannot be read: %v", id, p.ID, err)
		return
	}
	objects := map[string]string{}
	for _, f := range e.Files {
		objects[f.URL] = f.Object
	}
	for _, f := range p.Files {
		copied, err := os.ReadFile(filepath.Join(t.archive, objects[f.URL]))
		if sum := sha256.Sum256(copied); err != nil || !strings.EqualFold(hex.EncodeToString(sum[:]), f.SHA256()) {
			w.ledger.violates("lost", "%s of task %s is not in the archive: %v", f.URL, p.ID, err)
		}
	}
}

// close ends the provider.
func (t *tasks) close() {
	t.client.CloseIdleConnections()
	t.provider.Close()
}
