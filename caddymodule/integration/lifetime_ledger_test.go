package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

// expectedTask is a task as the admin API lists it.
type expectedTask struct {
	TaskID  string `json:"task_id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Polls   int    `json:"polls"`
	EventID string `json:"event_id"`
}

// outcomes returns how many callbacks of different outcomes the provider has for a task.
func outcomes(p fakeprovider.Task) int {
	if p.API == "generate/record-info" && p.Fate.Code == 0 {
		return 3
	}
	return 1
}

// calledBack reports whether the provider has nothing more to call back about a task.
func calledBack(p fakeprovider.Task) bool {
	if p.Fate.Never {
		return true
	}
	taken := 0
	for _, c := range p.Callbacks {
		if c.Status == http.StatusOK {
			taken++
		}
	}
	return taken >= outcomes(p) && len(p.Callbacks) >= outcomes(p)*(1+p.Fate.Repeat)
}

// open returns how many tasks are still expected.
func (l *life) open() int {
	l.t.Helper()
	n := 0
	for _, state := range []string{"expected", "overdue"} {
		n += len(list[expectedTask](l.gateways[0], "/relay/tasks", "tasks", url.Values{"state": {state}}))
	}
	return n
}

// end waits until all tasks have ended, and compares the ledgers of the provider, the gateways and the consumers.
func (l *life) end() {
	l.t.Helper()
	begun := time.Now()
	g := l.gateways[0]
	eventually(l.t, lifeWithin, "the provider has called back", func() bool {
		return !slices.ContainsFunc(l.provider.Tasks(), func(p fakeprovider.Task) bool { return !calledBack(p) })
	})
	eventually(l.t, lifeWithin, "no task is expected any more", func() bool { return l.open() == 0 })
	eventually(l.t, lifeWithin, "everything is settled", g.settled)
	took := time.Since(begun)

	events := map[string][]event{} // by task
	total := 0
	for _, e := range g.events(url.Values{"limit": {"1000"}}) {
		events[e.TaskID] = append(events[e.TaskID], e)
		total++
	}
	expected := map[string]expectedTask{}
	states := map[string]int{}
	for _, e := range list[expectedTask](g, "/relay/tasks", "tasks", url.Values{"limit": {"1000"}}) {
		expected[e.TaskID] = e
		states[e.State]++
	}
	tasks := l.provider.Tasks()
	for _, p := range tasks {
		l.checkTask(p, expected[p.ID], events[p.ID])
		l.checkFiles(p, events[p.ID])
	}
	l.checkArchive()
	repeats := 0
	for name, c := range l.consumers {
		repeats += l.checkConsumer(name, c, events)
	}
	if repeats > 0 && l.scale.kills == 0 {
		l.t.Errorf("%d requests repeat an earlier one", repeats)
	}
	l.t.Logf("%d submissions answered (the slowest took %s), %d not; %d tasks at the provider, %v, %d events at %d consumers, %d files, %d requests repeated; all had ended %s after the last submission",
		len(l.answered), l.slowest.Round(time.Millisecond), l.unanswered, len(tasks), states, total, len(l.consumers), l.files, repeats, took.Round(time.Second/10))
}

// checkTask checks that a task has one event for each of its outcomes, and ended by the last. A task that nobody was told of
// may never have been registered.
func (l *life) checkTask(p fakeprovider.Task, expected expectedTask, events []event) {
	l.t.Helper()
	want := outcomes(p)
	if p.Fate.Never {
		want = 1
	}
	if !l.answered[p.ID] && p.Fate.Never && len(events) == 0 {
		return
	}
	seen := map[string]bool{}
	finals := 0
	for _, e := range events {
		seen[fmt.Sprint(e.Stage, e.Code)] = true
		if e.Stage != "text" && e.Stage != "first" {
			finals++
			if p.Fate.Never && e.Origin != "recovered" {
				l.t.Errorf("task %s (%s, %+v) was never called back, and its event comes from a %s", p.ID, p.API, p.Fate, e.Origin)
			}
			// Without files it is the whole result that is compared, and the details spell it otherwise.
			if e.Conflicts > 0 && p.Fate.Code == 0 && len(p.Files) > 0 {
				l.t.Errorf("task %s (%s, %+v): the callback and the details differ, event %s", p.ID, p.API, p.Fate, e.ID)
			}
		}
		if e.State != "delivered" || len(e.Deliveries) < len(l.consumers) {
			l.t.Errorf("event %s of task %s is %s to %d destinations", e.ID, p.ID, e.State, len(e.Deliveries))
		}
	}
	if len(events) != want || len(seen) != want || finals != 1 {
		l.t.Errorf("task %s (%s, %+v) has %d events of %d outcomes, %d of them final: %+v; want %d; the gateway says %+v",
			p.ID, p.API, p.Fate, len(events), len(seen), finals, events, want, expected)
	}
	if l.answered[p.ID] && (expected.State != "called_back" && expected.State != "recovered" || expected.EventID == "") {
		l.t.Errorf("task %s (%s, %+v) is listed as %+v", p.ID, p.API, p.Fate, expected)
	}
}

// checkFiles checks that all files of a task are in the archive, and are named by what was delivered: by their own URLs, or
// by the archive's. Nothing recovered names where to call back.
func (l *life) checkFiles(p fakeprovider.Task, events []event) {
	l.t.Helper()
	for _, e := range events {
		if e.Stage == "text" || e.Stage == "first" || p.Fate.Code != 0 {
			continue
		}
		billing, library := l.consumers["billing"].bodyOf(e.ID), l.consumers["library"].bodyOf(e.ID)
		var archived map[string]archivedFile
		if len(p.Files) > 0 {
			archived = l.gateways[0].event(e.ID).archived()
		}
		for _, f := range p.Files {
			copied, err := os.ReadFile(filepath.Join(l.archive, archived[f.URL].Object))
			if sum := sha256.Sum256(copied); err != nil || hex.EncodeToString(sum[:]) != f.SHA256() || archived[f.URL].SHA256 != f.SHA256() {
				l.t.Errorf("%s of task %s (%s, %s) is not archived: %+v, %v", f.URL, p.ID, p.API, e.Origin, archived[f.URL], err)
			}
			if !strings.Contains(billing, f.URL) || strings.Contains(library, f.URL) || !strings.Contains(library, lifeArchive+"/"+archived[f.URL].Object) {
				l.t.Errorf("task %s (%s, %s) has %s, and was delivered as\n%s\n%s", p.ID, p.API, e.Origin, f.URL, billing, library)
			}
			l.files++
		}
		if e.Origin == "recovered" && strings.Contains(billing+library, p.CallbackURL) {
			l.t.Errorf("task %s (%s) names the callback URL: %s", p.ID, p.API, billing)
		}
	}
}

// checkArchive checks that the folder has just the files, but for the beginnings of those that a kill has cut off: these are
// removed after an hour.
func (l *life) checkArchive() {
	l.t.Helper()
	found := 0
	err := filepath.WalkDir(l.archive, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (l.scale.kills == 0 || !strings.HasPrefix(e.Name(), ".part-")) {
			found++
		}
		return err
	})
	if err != nil || found != l.files {
		l.t.Errorf("the folder of the archive has %d files of %d, %v", found, l.files, err)
	}
}

// bodyOf returns the body of an event's first request.
func (c *consumer) bodyOf(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.got {
		if r.event() == id {
			return r.body
		}
	}
	return ""
}

// checkConsumer checks that a consumer got just the gateway's events. It returns how many requests repeat an earlier one.
func (l *life) checkConsumer(name string, c *consumer, events map[string][]event) (repeats int) {
	l.t.Helper()
	want := map[string]bool{}
	for _, list := range events {
		for _, e := range list {
			want[e.ID] = true
		}
	}
	got := map[string]bool{}
	for _, r := range c.requests() {
		if got[r.event()] {
			repeats++
		}
		got[r.event()] = true
	}
	if !maps.Equal(got, want) {
		l.t.Errorf("%s got %d events, the gateway has %d", name, len(got), len(want))
	}
	return repeats
}
