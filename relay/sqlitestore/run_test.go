package sqlitestore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// openUntended opens a store whose runs are written by the test alone.
func openUntended(t *testing.T, path string) *Store {
	t.Helper()
	s, err := open(t.Context(), Options{Path: path, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Runs find events like before by key, task and id, however often they are merged, and after a restart. When its
// events have been purged, a run goes.
func TestRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	s := openUntended(t, path)
	const events, each, tasks = 350, 5, 7
	at := time.Now()
	var accepts []*relay.Accept
	for n := range events {
		if n%100 == 50 {
			at = at.Add(-time.Hour) // the clock is set
		}
		at = at.Add(time.Millisecond)
		id := ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy())
		accepts = append(accepts, &relay.Accept{Window: time.Hour, Event: &relay.Event{
			ID: id.String(), Source: "vocals", TaskID: fmt.Sprint("task-", n%tasks), Key: sha256.Sum256(id[:]),
			Origin: relay.OriginCallback, ReceivedAt: at, Body: []byte("{}"),
		}})
	}
	check := func(when string, there bool) {
		t.Helper()
		for n, a := range accepts {
			again := *a.Event
			again.ID = ulid.Make().String()
			b := &relay.Accept{Event: &again, Window: time.Hour}
			if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{b}}); b.Err != nil || b.Result != relay.Duplicate || b.FirstID != a.Event.ID {
				t.Fatalf("%s the repeated event %d is %v of %s, %v", when, n, b.Result, b.FirstID, b.Err)
			}
			if r, err := s.Event(t.Context(), a.Event.ID); there != (err == nil && r.Seq == a.Event.Seq) {
				t.Fatalf("%s event %d is %+v, %v", when, n, r, err)
			}
			if _, _, err := s.Replay(t.Context(), a.Event.ID, nil, 0); there != (err == nil) {
				t.Fatalf("%s event %d is replayed with %v", when, n, err)
			}
			b = &relay.Accept{Event: accepts[n].Event} // without a window the key is not there, but its id is
			if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{b}}); there && (b.Err != nil || b.Event.Seq != int64(n+1)) {
				t.Fatalf("%s the event %d in doubt is %d, %v", when, n, b.Event.Seq, b.Err)
			}
			if !there {
				return
			}
		}
		for task := range tasks {
			for _, oldest := range []bool{false, true} {
				var found []int64
				for cursor := ""; ; {
					page, next, err := s.Events(t.Context(), relay.EventFilter{TaskID: fmt.Sprint("task-", task), Oldest: oldest, Limit: 9, Cursor: cursor})
					must(t, err)
					for _, e := range page {
						found = append(found, e.Seq)
					}
					if cursor = next; next == "" {
						break
					}
				}
				if !oldest {
					slices.Reverse(found)
				}
				if len(found) != events/tasks || !slices.IsSorted(found) || found[0] != int64(task+1) {
					t.Fatalf("%s task %d has the events %v", when, task, found)
				}
			}
		}
	}
	s.indexFrom = each
	for batch := range slices.Chunk(accepts, each) {
		s.Apply(t.Context(), &relay.Batch{Accepts: batch})
		must(t, s.index(s.db.Keeper))
	}
	if n := len(s.runs); n < 2 || n >= 3*mergedRuns {
		t.Errorf("%d events are in %d runs", events, n)
	}
	check("merged", true)
	must(t, s.Close())
	s = openUntended(t, path)
	check("after a restart", true)
	policy := relay.PurgePolicy{Windows: map[string]time.Duration{"vocals": time.Hour}}
	for more := true; more; {
		r, err := s.Purge(t.Context(), policy)
		must(t, err)
		more = r.More
	}
	for range events {
		must(t, s.thin(s.db.Keeper))
	}
	pages, err := s.db.Writer.Stmt("SELECT count(*) FROM run_page").Int64()
	if len(s.runs) > 0 || pages > 0 || err != nil {
		t.Errorf("%d runs and %d pages are left, %v", len(s.runs), pages, err)
	}
	check("purged", false)
	must(t, s.Close())
}

// What a crash leaves of a run that was being written is deleted, and found nowhere.
func TestRunUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	s := openUntended(t, path)
	must(t, s.transact(nil, func() error { return s.writePages(&run{id: 3}, byKey, []int64{1, 2, 3}) }))
	must(t, s.Close())
	s = openUntended(t, path)
	pages, err := s.db.Writer.Stmt("SELECT count(*) FROM run_page").Int64()
	if len(s.runs) > 0 || pages > 0 || err != nil {
		t.Errorf("%d runs and %d pages are left, %v", len(s.runs), pages, err)
	}
	must(t, s.Close())
}

// A run finds the events of a hash in either direction, over as many pages as they fill, and no others.
func TestRunFind(t *testing.T) {
	s := openUntended(t, filepath.Join(t.TempDir(), "relay.db"))
	defer func() { must(t, s.Close()) }()
	const begin, events, hashes = 1000, 5 * pageEntries, 5
	r := &run{first: begin, last: begin + events - 1, events: events, newest: 1}
	random := rand.New(rand.NewPCG(1, 2))
	names, of := make([]uint64, hashes), map[uint64][]int64{}
	for i := range names {
		names[i] = random.Uint64()
	}
	var entries []int64
	for n := range int64(events) {
		hash := names[min(random.IntN(2*hashes), hashes-1)] // the last one has more than a page
		of[hash] = append(of[hash], begin+n)
		entries = append(entries, r.entry(hash, begin+n))
	}
	must(t, s.besides().write(r, func(int) ([]int64, error) { return slices.Clone(entries), nil }, nil, func() error { return nil }, func() {}))
	for range 300 {
		hash, oldest, limit := names[random.IntN(hashes)], random.IntN(2) == 0, 1+random.IntN(events)
		after, before := random.Int64N(begin+events+10), random.Int64N(begin+events+10)
		want := slices.DeleteFunc(slices.Clone(of[hash]), func(e int64) bool { return e <= after || e >= before })
		if !oldest {
			slices.Reverse(want)
		}
		want = want[:min(limit, len(want))]
		got, err := r.find(s.db.Writer, byTask, hash, after, before, oldest, limit)
		if !slices.Equal(got, want) || err != nil {
			t.Fatalf("between %d and %d are %v, %v; want %v", after, before, got, err, want)
		}
		if may, err := s.mayHave(r, hash); !may || err != nil {
			t.Fatalf("the filter denies a key: %v, %v", may, err)
		}
	}
	if got, err := r.find(s.db.Writer, byKey, random.Uint64(), 0, never, false, 1); len(got) > 0 || err != nil {
		t.Errorf("a hash of none finds %v, %v", got, err)
	}
}

func TestFilter(t *testing.T) {
	const keys = 100_000
	f := newFilter(keys)
	hash := func(n int) uint64 {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
		return short(binary.BigEndian.Uint64(sum[:]))
	}
	for n := range keys {
		f.add(hash(n))
	}
	wrong := 0
	for n := range keys {
		if !f.mayHave(hash(n)) {
			t.Fatalf("key %d is denied", n)
		}
		if f.mayHave(hash(keys + n)) {
			wrong++
		}
	}
	if wrong > keys/50 {
		t.Errorf("%d of %d keys that are not there seem to be", wrong, keys)
	}
}
