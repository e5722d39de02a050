package sqlitestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// patient is a store whose file is looked after when the test says so.
type patient struct {
	*Store
	t    *testing.T
	path string
	log  bytes.Buffer
	ids  []string // of the events that were answered
	ills map[string]string
}

func newPatient(t *testing.T) *patient {
	p := &patient{t: t, path: filepath.Join(t.TempDir(), "relay.db"), ills: map[string]string{}}
	p.open()
	t.Cleanup(func() { _ = p.Close() }) // which a test that wants to know has called
	return p
}

func (p *patient) open() {
	p.t.Helper()
	var err error
	if p.Store, err = open(p.t.Context(), Options{Path: p.path, MinFree: 1, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}); err != nil {
		p.t.Fatal(err)
	}
}

// tend looks as often as the keeper does in two seconds.
func (p *patient) tend() {
	for range 4 {
		p.report(p.ills, "store unhealthy", p.look())
	}
}

func newAccept(task string) *relay.Accept {
	id := ulid.Make()
	return &relay.Accept{
		Event: &relay.Event{
			ID: id.String(), Source: "vocals", TaskID: task, Key: sha256.Sum256(id[:]), Origin: relay.OriginCallback,
			ReceivedAt: time.Now(), Body: bytes.Repeat([]byte("body "), 1000),
		},
		Window:     time.Hour,
		Deliveries: []relay.NewDelivery{{Destination: "billing", LeaseFor: time.Minute}, {Destination: "search"}},
	}
}

func (p *patient) accept(a *relay.Accept) error {
	p.Apply(context.Background(), &relay.Batch{Accepts: []*relay.Accept{a}})
	if a.Err == nil && !slices.Contains(p.ids, a.Event.ID) {
		p.ids = append(p.ids, a.Event.ID)
	}
	return a.Err
}

func (p *patient) fill(n int) {
	p.t.Helper()
	for i := range n {
		if err := p.accept(newAccept(fmt.Sprint("task-", i))); err != nil {
			p.t.Fatal(err)
		}
	}
}

// wantIll checks that nothing is answered 200 and that Health says so, with the reason.
func (p *patient) wantIll(reason string) {
	p.t.Helper()
	if err := p.accept(newAccept("while ill")); !errors.Is(err, relay.ErrUnavailable) {
		p.t.Errorf("a callback is answered with %v", err)
	}
	p.tend()
	if err := p.Health(p.t.Context()); !errors.Is(err, relay.ErrUnavailable) || !strings.Contains(err.Error(), reason) {
		p.t.Errorf("health is %v, want one that says %q", err, reason)
	}
	if _, _, err := p.Events(p.t.Context(), relay.EventFilter{}); err == nil {
		p.t.Error("a list is answered")
	}
	if _, err := p.Purge(p.t.Context(), relay.PurgePolicy{}); !errors.Is(err, relay.ErrUnavailable) {
		p.t.Errorf("a purge gives %v", err)
	}
	if log := p.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, reason) {
		p.t.Errorf("the log says %s", log)
	}
}

// wantWell checks that callbacks are taken again, and that nothing that was answered before is gone, now and after a
// restart.
func (p *patient) wantWell() {
	p.t.Helper()
	p.tend()
	for _, restart := range []bool{false, true} {
		if restart {
			if err := p.Close(); err != nil {
				p.t.Fatal(err)
			}
			p.open()
		}
		if err := p.Health(p.t.Context()); err != nil {
			p.t.Fatalf("health is %v", err)
		}
		p.fill(1)
		for i, id := range p.ids {
			if _, err := p.Event(p.t.Context(), id); err != nil {
				p.t.Fatalf("event %d of %d: %v", i, len(p.ids), err)
			}
		}
		l := &relay.Lease{Source: "vocals", Destination: "search", Max: len(p.ids) + 10, For: time.Minute}
		if p.Apply(p.t.Context(), &relay.Batch{Leases: []*relay.Lease{l}}); l.Err != nil || restart && len(l.Leased) < len(p.ids) {
			p.t.Errorf("%d of %d deliveries are leased, %v", len(l.Leased), len(p.ids), l.Err)
		}
	}
}

func (p *patient) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestFileMovedAway(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.must(os.Rename(p.path, p.path+".away"))
	p.tend() // a file that has another name is found out by the keeper
	p.wantIll("put that very file back")
	p.must(os.Rename(p.path+".away", p.path))
	p.wantWell()
}

func TestFileRemoved(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.must(os.Remove(p.path))
	p.wantIll("relay.db has been removed")
	p.wantIll("relay.db has been removed")
	_ = p.Close()
	p.ids = nil
	p.open()
	p.wantWell() // with a new file
}

func TestFileReplaced(t *testing.T) {
	other := newPatient(t)
	other.fill(3)
	p := newPatient(t)
	p.fill(10)
	p.must(other.Close())
	p.must(os.Rename(p.path, p.path+".away"))
	p.must(os.Rename(other.path, p.path))
	p.tend()
	p.wantIll("replaced by another file")
	p.must(os.Rename(p.path, other.path))
	p.must(os.Rename(p.path+".away", p.path))
	p.wantWell() // with the very file
	p.must(p.Close())
	p.open()
	p.fill(1)
	p.must(os.Rename(other.path, p.path))
	p.wantIll("replaced by another file")
	_ = p.Close()
	p.ids = other.ids
	p.open()
	p.wantWell() // with the file that came instead, over which nothing was written
}

func TestFileCut(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.write.Lock()
	p.must(p.db.TruncateLog())
	p.write.Unlock()
	p.tend()
	p.fill(3)
	content, err := os.ReadFile(p.path)
	p.must(err)
	for _, size := range []int64{0, 4096, int64(len(content)) / 2} {
		p.must(os.Truncate(p.path, size))
		p.tend()
		p.wantIll("relay.db has been truncated")
		f, err := os.OpenFile(p.path, os.O_WRONLY, 0)
		p.must(err)
		_, err = f.Write(content)
		p.must(errors.Join(err, f.Close()))
		p.tend()
		if err := p.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.wantWell()
}

func TestLogRemoved(t *testing.T) {
	for name, harm := range map[string]func(log string) error{
		"removed": os.Remove,
		"moved":   func(log string) error { return os.Rename(log, log+".away") },
		"replaced": func(log string) error {
			return errors.Join(os.Remove(log), os.WriteFile(log, []byte("something else"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.fill(10)
			p.must(harm(p.path + "-wal"))
			a := newAccept("in doubt")
			if name == "moved" {
				p.report(p.ills, "store unhealthy", p.look())
			}
			if err := p.accept(a); !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("a callback is answered with %v", err)
			}
			p.tend()
			if err := p.accept(a); err != nil || a.Result != relay.Accepted {
				t.Errorf("the same callback is answered with %v, %v", a.Result, err)
			}
			p.wantWell()
			if log := p.log.String(); !strings.Contains(log, "relay.db-wal has been re") || !strings.Contains(log, "healthy again") || strings.Contains(log, "lost") {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

// What somebody cuts from the log is gone, if it was not in the database yet: but nothing more than that, and what comes
// afterwards is safe.
func TestLogCut(t *testing.T) {
	for _, copied := range []int{0, 10, 20} {
		for _, part := range []int64{0, 100, 40000, -1} {
			t.Run(fmt.Sprint(copied, " of 20 copied, cut to ", part), func(t *testing.T) {
				p := newPatient(t)
				p.fill(copied)
				p.must(p.db.Keeper.Pragma("wal_checkpoint(passive)"))
				p.fill(20 - copied)
				used, err := p.db.LogBytes()
				p.must(err)
				part := part
				if part < 0 {
					part += 32 + used // with the log's head
				}
				p.must(os.Truncate(p.path+"-wal", part))
				a := newAccept("after it") // written behind what was cut
				if err := p.accept(a); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("a callback is answered with %v", err)
				}
				p.tend()
				p.must(p.Health(t.Context()))
				last := -1
				for i, id := range p.ids {
					if _, err := p.Event(t.Context(), id); err == nil {
						last = i
					} else if !errors.Is(err, relay.ErrNotFound) {
						t.Fatal(err)
					}
				}
				if last < copied-1 {
					t.Errorf("%d events are left, %d were in the database", last+1, copied)
				}
				if lost := strings.Contains(p.log.String(), "lost events"); lost != (last+1 < 20) {
					t.Errorf("%d events are left, and the log says %s", last+1, p.log.String())
				}
				p.ids = p.ids[:last+1]
				p.must(p.accept(a))
				p.wantWell()
			})
		}
	}
}

// A copy written back over the log begins with its head. What stands behind it is still there, so nothing is lost.
func TestLogHeadOverwritten(t *testing.T) {
	for _, at := range []int64{0, 12, 16, 24} {
		t.Run(fmt.Sprint("from byte ", at), func(t *testing.T) {
			p := newPatient(t)
			p.fill(10)
			overwrite(t, p.path+"-wal", at, []byte("somebody"))
			a := newAccept("in doubt")
			if err := p.accept(a); !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("a callback is answered with %v", err)
			}
			p.tend()
			p.must(p.accept(a))
			p.wantWell()
			if log := p.log.String(); !strings.Contains(log, "relay.db-wal has been overwritten") || !strings.Contains(log, "healthy again") {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

func TestFileHeadOverwritten(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.write.Lock()
	p.must(p.db.TruncateLog())
	p.write.Unlock()
	p.tend()
	overwrite(t, p.path, 0, make([]byte, 100))
	p.tend()
	p.wantIll("relay.db has been overwritten")
}

func overwrite(t *testing.T, name string, at int64, content []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(content, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// The log's index is memory that is shared by a file: to read what was cut from it is a memory fault.
func TestIndexHarmed(t *testing.T) {
	for name, harm := range map[string]func(index string) error{
		"removed": os.Remove,
		"replaced": func(index string) error {
			return errors.Join(os.Remove(index), os.WriteFile(index, make([]byte, 32<<10), 0o600))
		},
		"emptied": func(index string) error { return os.Truncate(index, 0) },
		"cut":     func(index string) error { return os.Truncate(index, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.fill(10)
			p.must(harm(p.path + "-shm"))
			a := newAccept("in doubt")
			err := p.accept(a)
			if err != nil && !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("a callback is answered with %v", err)
			}
			_, _, _ = p.Events(t.Context(), relay.EventFilter{}) // alive is all that is asked of it
			p.tend()
			p.must(p.accept(a))
			p.wantWell()
			if log := p.log.String(); !strings.Contains(log, "relay.db-shm has been") && !strings.Contains(log, "fault") {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

// Everything goes: the process stays, and a restart begins anew.
func TestAllRemoved(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		p.must(os.Remove(p.path + suffix))
	}
	p.wantIll("relay.db has been removed")
	_ = p.Close()
	p.ids = nil
	p.open()
	p.wantWell()
}

// A gateway that stops before anybody has looked takes along what a log without a name holds.
func TestStopWithoutLog(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.must(os.Remove(p.path + "-wal"))
	p.must(p.db.Close())
	p.open()
	p.wantWell()
}

// What cannot be saved stays where it is, and is saved later.
func TestLogCannotBeSaved(t *testing.T) {
	p := newPatient(t)
	p.fill(10)
	p.must(errors.Join(os.Remove(p.path+"-wal"), os.Mkdir(p.path+"-wal.part", 0o700)))
	p.tend()
	p.wantIll("relay.db-wal.part")
	p.must(os.Remove(p.path + "-wal.part"))
	p.wantWell()
}
