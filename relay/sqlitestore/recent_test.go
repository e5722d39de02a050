package sqlitestore

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// What has moved from memory to the tables is found like before: by key and by task, also after a purge or a restart.
func TestIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	reopen := func() *Store {
		s := openUntended(t, path)
		s.indexFrom = 1
		return s
	}
	s := reopen()
	const tasks, stages = 20, 3
	accept := func(n int) *relay.Accept {
		a := &relay.Accept{
			Event: &relay.Event{
				ID: ulid.Make().String(), Source: "vocals", TaskID: fmt.Sprint("task-", n%tasks), Stage: fmt.Sprint(n / tasks),
				Key: sha256.Sum256(fmt.Append(nil, n)), Origin: relay.OriginCallback, ReceivedAt: time.Now(), Body: []byte(`{}`),
			},
			Window: time.Hour,
		}
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		return a
	}
	check := func(when string, events int) {
		t.Helper()
		for n := range tasks * stages {
			if a := accept(n); a.Result != relay.Duplicate {
				t.Fatalf("%s callback %d is %v", when, n, a.Result)
			}
		}
		for n := range tasks {
			task := fmt.Sprint("task-", n)
			list, _, err := s.Events(t.Context(), relay.EventFilter{TaskID: task})
			if err != nil || len(list) != events {
				t.Fatalf("%s %s has %d events, %v", when, task, len(list), err)
			}
			for i, e := range list {
				if e.TaskID != task || i > 0 && e.Seq >= list[i-1].Seq {
					t.Fatalf("%s %s lists %+v", when, task, e)
				}
			}
		}
	}
	index := func() {
		t.Helper()
		if err := s.read(t.Context(), s.index); err != nil {
			t.Fatal(err)
		}
	}

	for n := range tasks * stages {
		if a := accept(n); a.Result != relay.Accepted {
			t.Fatalf("callback %d is %v", n, a.Result)
		}
		if n == tasks {
			index() // so that the last tasks are in both
		}
	}
	check("in part", stages)
	index()
	if n := len(s.recent.keys) + len(s.recent.ids) + len(s.recent.events); n > 0 {
		t.Errorf("%d entries stay in memory", n)
	}
	check("indexed", stages)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopen()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	check("after a restart", stages)
	// The events go, and what their keys stood for stays until its window ends.
	policy := relay.PurgePolicy{Windows: map[string]time.Duration{"vocals": time.Hour}}
	for more := true; more; {
		r, err := s.Purge(t.Context(), policy)
		if err != nil {
			t.Fatal(err)
		}
		more = r.More
	}
	check("after a purge", 0)
}
