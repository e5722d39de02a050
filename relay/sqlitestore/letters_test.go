package sqlitestore

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// writeLetters fills a store with dead letters of two destinations, given up one after the other.
func writeLetters(t *testing.T, s *Store, letters int64) {
	t.Helper()
	must(t, s.transact(nil, func() error {
		for _, query := range []string{
			"INSERT INTO source (id, name) VALUES (1, 'vocals')",
			"INSERT INTO destination (id, source, name, dead) VALUES (1, 1, 'one', ?1 / 2), (2, 1, 'two', ?1 - ?1 / 2)",
			`WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
				INSERT INTO event (seq, id, source, task, stage, code, key, fingerprint, origin, accepted, received, body)
				SELECT n, randomblob(16), 1, 'task', '', '', randomblob(32), x'', 'callback', 1, 1, '{}' FROM n`,
			`WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
				INSERT INTO delivery (event, destination, state, tries, dead_at) SELECT n, 1 + n % 2, ` + sqlDead + `, 0, n FROM n`,
		} {
			st := s.db.Writer.Stmt(query)
			if query[0] != 'I' || query[len("INSERT INTO ")] == 'd' {
				st.BindInt64(1, letters)
			}
			if err := st.Exec(); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, s.load())
}

// Dead letters of a time are listed, redriven and discarded, each once, however many others are before and behind them.
func TestFewOfManyLetters(t *testing.T) {
	const letters, from, to = 3*scannedLetters + 7, scannedLetters + 100, scannedLetters + 1500
	s := openUntended(t, t.TempDir()+"/relay.db")
	defer func() { must(t, s.Close()) }()
	writeLetters(t, s, letters)
	selection := relay.Selection{Since: time.UnixMilli(from), Until: time.UnixMilli(to)}
	list := func(sel relay.Selection) (listed, pages int) {
		last := time.UnixMilli(letters + 1)
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := s.DeadLetters(t.Context(), sel, 400, cursor)
			must(t, err)
			for _, l := range page {
				if !l.DeadAt.Before(last) || l.DeadAt.Before(sel.Since) {
					t.Fatalf("after the letter of %s comes that of %s", last, l.DeadAt)
				}
				last = l.DeadAt
			}
			listed, cursor, pages = listed+len(page), next, pages+1
		}
		return listed, pages
	}
	if n, pages := list(relay.Selection{Source: "vocals"}); n != letters || pages > letters/400+1 {
		t.Errorf("%d listed on %d pages, want %d", n, pages, letters)
	}
	if n, _ := list(selection); n != to-from {
		t.Errorf("%d of a time listed, want %d", n, to-from)
	}
	redriven := 0
	for cursor, more := "", true; more; more = cursor != "" {
		n, next, err := s.Redrive(t.Context(), selection, relay.Pace{}, cursor)
		must(t, err)
		redriven, cursor = redriven+n, next
	}
	if redriven != to-from {
		t.Errorf("%d redriven, want %d", redriven, to-from)
	}
	selection.Until = selection.Until.Add(700 * time.Millisecond)
	discarded := 0
	for cursor, more := "", true; more; more = cursor != "" {
		n, next, err := s.Discard(t.Context(), selection, cursor)
		must(t, err)
		discarded, cursor = discarded+n, next
	}
	if discarded != 700 {
		t.Errorf("%d discarded, want 700", discarded)
	}
	if n, _ := list(relay.Selection{}); n != letters-700-(to-from) {
		t.Errorf("%d are left, want %d", n, letters-700-(to-from))
	}
}
