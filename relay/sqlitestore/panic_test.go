package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

func wantPanic(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*guard.PanicError](err); !ok {
		t.Errorf("the error is %v, want one of a panic", err)
	}
}

// What panics fails alone, and leaves nothing behind.
func TestPanicInTransaction(t *testing.T) {
	p := newPatient(t)
	good := newAccept("good")
	bad := &relay.Settle{Leased: nil}
	p.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{bad}, Accepts: []*relay.Accept{good}})
	wantPanic(t, bad.Err)
	if good.Err != nil || good.Result != relay.Accepted {
		t.Errorf("an accept of the same batch gives %v, %v", good.Result, good.Err)
	}
	p.ids = append(p.ids, good.Event.ID)
	p.must(p.Health(t.Context()))
	p.wantWell()
}

// Where a panic may have left memory in disorder, it is read again from the file.
func TestPanicOutsideTransaction(t *testing.T) {
	p := newPatient(t)
	p.fill(3)
	bad := &relay.Accept{Event: nil}
	lease := &relay.Lease{Source: "vocals", Destination: "search", Max: 1, For: time.Minute}
	p.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{bad}, Leases: []*relay.Lease{lease}})
	wantPanic(t, bad.Err)
	if !errors.Is(bad.Err, relay.ErrUnavailable) || !errors.Is(lease.Err, relay.ErrUnavailable) {
		t.Errorf("the errors are %v and %v", bad.Err, lease.Err)
	}
	p.tend()
	if !strings.Contains(p.log.String(), "panic_test.go") {
		t.Errorf("the log has no stack: %s", p.log.String())
	}
	p.wantWell()
}

func TestPanicInRead(t *testing.T) {
	p := newPatient(t)
	p.fill(3)
	for range 2 * readers {
		wantPanic(t, p.read(t.Context(), func(c *sqlitefile.Conn) error {
			_, _ = c.Stmt("SELECT seq FROM event").Step()
			panic("in the middle of a list")
		}))
	}
	p.must(p.Health(t.Context()))
	p.wantWell()
}

// safeBuffer is written by the keeper while the test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The keeper finds out within a second, and survives its own panic.
func TestKeeper(t *testing.T) {
	path, log := filepath.Join(t.TempDir(), "relay.db"), &safeBuffer{}
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(context.Background(), Options{Path: path, MinFree: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		after := func(d time.Duration) error {
			<-time.After(d)
			synctest.Wait()
			return s.Health(context.Background())
		}
		if err := after(5 * time.Second); err != nil {
			t.Error(err)
		}
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := after(time.Second); !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("a second after the file was moved away health is %v", err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		if err := after(2 * time.Second); err != nil {
			t.Errorf("after the file is back health is %v", err)
		}
		caught := guard.Caught()
		s.mem.Lock()
		s.byID[99] = nil
		s.mem.Unlock()
		if err := after(2 * oldestEvery); err != nil {
			t.Errorf("after the keeper's panic health is %v", err)
		}
		if guard.Caught() == caught || !strings.Contains(log.String(), "keep.go") {
			t.Errorf("%d panics were caught, the log says %s", guard.Caught()-caught, log)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
