package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
	"github.com/callbackrelay/caddy-relay/relay/provider"
	"github.com/callbackrelay/caddy-relay/relay/signer"
)

// fileServer serves the files of callbacks, and fails as long as it is told to.
type fileServer struct {
	*httptest.Server
	status atomic.Int64 // 0: it works
	hold   chan struct{}
	asked  atomic.Int64
}

func newFileServer(t *testing.T) *fileServer {
	t.Helper()
	s := &fileServer{hold: make(chan struct{})}
	close(s.hold)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		select {
		case <-s.hold:
		case <-r.Context().Done():
			return
		}
		if status := s.status.Load(); status != 0 && r.URL.Path != "/good.mp3" {
			w.WriteHeader(int(status))
			return
		}
		w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = w.Write([]byte("the file " + r.URL.Path))
	}))
	t.Cleanup(s.Close)
	return s
}

// archiveOf is the archive of a source, in a folder, with the URL https://files.example.com.
func archiveOf(t *testing.T, folder string) *relay.Destination {
	t.Helper()
	storage, err := archive.NewFolder(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	return archiveIn(t, storage)
}

// archiveIn is the archive of a source, in a storage, with the URL https://files.example.com.
func archiveIn(t *testing.T, storage archive.Storage) *relay.Destination {
	t.Helper()
	hosts, err := archive.ParseHosts([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return &relay.Destination{
		Name: relay.ArchiveName, Timeout: time.Minute, Retry: retries(50 * time.Millisecond), Permanent: []int{http.StatusGone},
		MaxInFlight: archive.MaxFetches, Expire: relay.DefaultExpire, Stages: []string{"", "complete"}, FileLife: 24 * time.Hour,
		Breaker: relay.BreakerPolicy{Failures: relay.DefaultBreakerFailures, Probe: relay.DefaultProbeInterval},
		Archiver: archive.New(archive.Options{
			Storage: storage, Provider: provider.Suno(), Hosts: hosts, Insecure: true, URLPrefix: "https://files.example.com",
		}),
	}
}

func filesCallback(task, stage string, urls ...string) *http.Request {
	var list []string
	for _, u := range urls {
		list = append(list, fmt.Sprintf(`{"audio_url":%q}`, u))
	}
	return callbackOf(fmt.Sprintf(`{"code":200,"data":{"task_id":%q,"callbackType":%q,"data":[%s]}}`, task, stage, strings.Join(list, ",")))
}

// A destination whose body is that of the archive waits for it; the others do not.
func TestBodyArchived(t *testing.T) {
	host := newFileServer(t)
	host.hold = make(chan struct{})
	at, early := newConsumer(t, nil), newConsumer(t, nil)
	folder := t.TempDir()
	a := archiveOf(t, folder)
	rewritten, original := destination(t, "app", at.URL), destination(t, "early", early.URL)
	rewritten.BodyArchived = a.Archiver
	sign, err := signer.New("whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5", "")
	if err != nil {
		t.Fatal(err)
	}
	rewritten.Signer = sign
	g := newGateway(t, rewritten, original, a)
	id := g.send(filesCallback("t", "complete", host.URL+"/1.mp3", host.URL+"/2.mp3")).Header().Get("Relay-Event-Id")
	if body := early.next(t).body; !strings.Contains(body, host.URL+"/1.mp3") {
		t.Error(body)
	}
	if d := g.delivery(id, "app"); d.State != relay.StatePending || d.Tries != 0 {
		t.Errorf("%+v", d)
	}
	close(host.hold)
	got := at.next(t)
	g.awaitState(id, relay.ArchiveName, relay.StateDelivered)
	rec, err := g.Event(t.Context(), id)
	if err != nil || len(rec.Files) != 2 {
		t.Fatalf("%+v %v", rec.Files, err)
	}
	want := string(rec.Body)
	for _, f := range rec.Files {
		if kept, err := os.ReadFile(filepath.Join(folder, f.Object)); err != nil || string(kept) != "the file "+strings.TrimPrefix(f.URL, host.URL) {
			t.Errorf("%s: %q %v", f.URL, kept, err)
		}
		want = strings.Replace(want, f.URL, "https://files.example.com/"+f.Object, 1)
	}
	if got.body != want {
		t.Errorf("got %s\nnot %s", got.body, want)
	}
	signed, err := sign.Sign(id, timestamp(t, got.header), []byte(want))
	if err != nil || got.header.Get("Webhook-Signature") != signed {
		t.Error("the signature is not over what was sent", err)
	}
}

// A delivery that is replayed together with the archive waits for it, and one that is replayed by itself does not.
func TestReplayedBehindTheArchive(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		host := newFileServer(t)
		host.status.Store(http.StatusForbidden)
		at := newConsumer(t, nil)
		a := archiveOf(t, t.TempDir())
		a.Retry = retries()
		app := destination(t, "app", at.URL)
		app.BodyArchived = a.Archiver
		g := start(app, a)
		id := g.send(filesCallback("t", "complete", host.URL+"/1.mp3")).Header().Get("Relay-Event-Id")
		if body := at.next(t).body; !strings.Contains(body, host.URL+"/1.mp3") {
			t.Errorf("without its file in the archive it is sent as %s", body)
		}
		g.awaitState(id, relay.ArchiveName, relay.StateDead)
		g.awaitState(id, "app", relay.StateDelivered)

		host.hold = make(chan struct{})
		host.status.Store(0)
		if n, _, err := g.Replay(t.Context(), id, nil, 0); n != 2 || err != nil {
			t.Fatalf("replayed %d, %v", n, err)
		}
		g.await("the archive is asked", func() bool { return host.asked.Load() == 2 })
		g.await("it waits", func() bool {
			d := g.delivery(id, "app")
			return d.State == relay.StatePending && d.NextAttempt > 0
		})
		close(host.hold)
		for n := range 2 {
			got := at.next(t)
			if !strings.Contains(got.body, "https://files.example.com/") || got.header.Get("Relay-Attempt") != strconv.Itoa(2+n) {
				t.Errorf("replay %d is sent as %s %v", n+1, got.body, got.header)
			}
			if n > 0 {
				break
			}
			g.awaitState(id, "app", relay.StateDelivered)
			if _, _, err := g.Replay(t.Context(), id, []string{"app"}, 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// timestamp returns the webhook-timestamp of a request.
func timestamp(t *testing.T, h http.Header) time.Time {
	t.Helper()
	var unix int64
	if _, err := fmt.Sscan(h.Get("Webhook-Timestamp"), &unix); err != nil {
		t.Fatal(err)
	}
	return time.Unix(unix, 0)
}

// With before_delivery others wait until the archive has given up, and then get the URLs that it could not replace.
func TestBeforeDelivery(t *testing.T) {
	host := newFileServer(t)
	host.status.Store(http.StatusForbidden)
	at := newConsumer(t, nil)
	a := archiveOf(t, t.TempDir())
	a.BeforeDelivery = true
	app := destination(t, "app", at.URL)
	app.BodyArchived = a.Archiver
	g := newGateway(t, app, a)
	id := g.send(filesCallback("t", "complete", host.URL+"/bad.mp3", host.URL+"/good.mp3")).Header().Get("Relay-Event-Id")
	body := at.next(t).body
	d := g.awaitState(id, relay.ArchiveName, relay.StateDead)
	if len(d.Attempts) != 2 || d.Attempts[1].Status != http.StatusForbidden || d.Attempts[1].Error != "data.data.0.audio_url: the server answered 403" {
		t.Errorf("%+v", d.Attempts)
	}
	if !strings.Contains(body, host.URL+"/bad.mp3") || strings.Contains(body, "/good.mp3") || !strings.Contains(body, "https://files.example.com/") {
		t.Error(body)
	}
	if n := host.asked.Load(); n != 3 {
		t.Errorf("%d requests: what is stored is fetched again", n)
	}
	// Whoever redrives it once the host has the file gets it.
	host.status.Store(0)
	if n, _, err := g.Replay(t.Context(), id, []string{relay.ArchiveName}, 0); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	g.awaitState(id, relay.ArchiveName, relay.StateDelivered)
	if rec, err := g.Event(t.Context(), id); err != nil || len(rec.Files) != 2 {
		t.Errorf("%+v %v", rec.Files, err)
	}
}

// A file that is refused for what it is makes a dead letter at once, and what servers of files do does not hold the archive.
func TestArchiveRefused(t *testing.T) {
	at := newConsumer(t, nil)
	a := archiveOf(t, t.TempDir())
	a.BeforeDelivery = true
	g := newGateway(t, destination(t, "app", at.URL), a)
	for i := range 4 {
		id := g.send(filesCallback(fmt.Sprint("t", i), "complete", "http://169.254.169.254/secret.mp3")).Header().Get("Relay-Event-Id")
		at.next(t)
		if d := g.awaitState(id, relay.ArchiveName, relay.StateDead); d.Tries != 1 {
			t.Errorf("%+v", d)
		}
	}
	for _, d := range g.Status(t.Context()).Destinations {
		if d.Breaker.State != "closed" {
			t.Errorf("%s is held", d.Name)
		}
	}
}

// panicking is a storage with a bug.
type panicking struct{}

func (panicking) Put(context.Context, string, io.Reader, int64, string) error { panic("no bucket") }

// A storage that panics is logged with its stack, and its delivery is tried again.
func TestArchivePanics(t *testing.T) {
	var logged logLines
	host := newFileServer(t)
	g := newGateway(t, archiveIn(t, panicking{}))
	s := g.settings()
	s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	g.Push(s)
	id := g.send(filesCallback("t", "complete", host.URL+"/1.mp3")).Header().Get("Relay-Event-Id")
	g.await("the panic is logged", func() bool {
		return logged.count("an attempt failed inside the gateway", id) > 0
	})
	if logged.count("an attempt failed inside the gateway", "panicking.Put") == 0 {
		t.Error("the stack is missing")
	}
	if d := g.awaitState(id, relay.ArchiveName, relay.StateDead); d.Tries != 2 {
		t.Errorf("%+v", d)
	}
}

// Only final stages with files go to the archive, and nothing waits for one that gets nothing.
func TestArchiveStages(t *testing.T) {
	host := newFileServer(t)
	at := newConsumer(t, nil)
	a := archiveOf(t, t.TempDir())
	a.BeforeDelivery = true
	g := newGateway(t, destination(t, "app", at.URL), a)
	for _, r := range []*http.Request{filesCallback("t", "first", host.URL+"/1.mp3"), filesCallback("t", "complete")} {
		id := g.send(r).Header().Get("Relay-Event-Id")
		at.next(t)
		rec, err := g.Event(t.Context(), id)
		if err != nil || len(rec.Deliveries) != 1 {
			t.Errorf("%+v %v", rec.Deliveries, err)
		}
	}
}

func TestArchiveMetrics(t *testing.T) {
	host := newFileServer(t)
	host.status.Store(http.StatusGone)
	at := newConsumer(t, nil)
	a := archiveOf(t, t.TempDir())
	g := newGateway(t, destination(t, "app", at.URL), a)
	for _, name := range []string{"caddy_relay_files_archived_total", "caddy_relay_archived_bytes_total"} {
		if before := values(t, g.metrics, name); !maps.Equal(before, map[string]float64{"stored": 0, "failed": 0}) {
			t.Errorf("%s is %v before the first file", name, before)
		}
	}
	id := g.send(filesCallback("t", "complete", host.URL+"/bad.mp3", host.URL+"/good.mp3")).Header().Get("Relay-Event-Id")
	g.awaitState(id, relay.ArchiveName, relay.StateDead)
	size := float64(len("the file /good.mp3"))
	if files := values(t, g.metrics, "caddy_relay_files_archived_total"); !maps.Equal(files, map[string]float64{"stored": 1, "failed": 1}) {
		t.Error(files)
	}
	if bytes := values(t, g.metrics, "caddy_relay_archived_bytes_total"); !maps.Equal(bytes, map[string]float64{"stored": size, "failed": 0}) {
		t.Error(bytes)
	}
	if soon := values(t, g.metrics, "caddy_relay_archive_expires_seconds")[""]; soon != 24*3600 {
		t.Error("files that are settled count as waiting", soon)
	}
	if err := g.Pause(t.Context(), "vocals", relay.ArchiveName, true); err != nil {
		t.Fatal(err)
	}
	g.send(filesCallback("u", "complete", host.URL+"/good.mp3"))
	if soon := values(t, g.metrics, "caddy_relay_archive_expires_seconds")[""]; soon > 24*3600 || soon < 23*3600 {
		t.Errorf("%v s", soon)
	}
}

// values returns the values of a metric by the label result.
func values(t *testing.T, c prometheus.Collector, name string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name {
				continue
			}
			result := ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" {
					result = l.GetValue()
				}
			}
			found[result] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return found
}
