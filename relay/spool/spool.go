// Package spool keeps accepts in a SQLite file of the gateway's own, while the store that several gateways share cannot
// take them.
package spool

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
)

const (
	// DefaultMaxBytes is how much a spool holds.
	DefaultMaxBytes = 1 << 30
	// DefaultMaxAge is how old its oldest entry may be before it takes no more.
	DefaultMaxAge = 30 * 24 * time.Hour

	applicationID = 0x52656c73 // "Rels"
	lockWait      = 10 * time.Second
	lockRetry     = 100 * time.Millisecond
)

//go:embed schema.sql
var schema string

// Options say where the spool is, and how much it holds.
type Options struct {
	Path     string
	MaxBytes int64
	MaxAge   time.Duration
}

// Spool implements relay.Spool.
type Spool struct {
	options Options
	lock    *flock.Flock

	mu     sync.Mutex
	conn   *sqlite.Conn
	closed bool
	stat   relay.SpoolStat
}

var _ relay.Spool = (*Spool)(nil)

// Open opens the spool, and makes it where there is none. relay.ErrStoreLocked (wrapped) says that another process still
// has it after 10 s.
func Open(ctx context.Context, o Options) (_ *Spool, err error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Path, err = filepath.Abs(o.Path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("spool %s: %w", o.Path, err)
		}
	}()
	if err := durable.MakeFolder(filepath.Dir(o.Path)); err != nil {
		return nil, err
	}
	s := &Spool{options: o, lock: flock.New(o.Path+".lock", flock.SetPermissions(0o600))}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	locked, err := s.lock.TryLockContext(waiting, lockRetry)
	if !locked {
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("another process has it: %w", relay.ErrStoreLocked)
		}
		return nil, err
	}
	if err := s.open(); err != nil {
		if s.conn != nil {
			err = errors.Join(err, s.conn.Close())
		}
		return nil, errors.Join(err, s.lock.Unlock())
	}
	return s, nil
}

func (s *Spool) open() error {
	// The file is made by us, since SQLite would make it readable for the group.
	f, err := os.OpenFile(s.options.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.conn, err = sqlite.OpenConn(s.options.Path, sqlite.OpenReadWrite); err != nil {
		return err
	}
	id, err := sqlitex.ResultInt64(s.conn.Prep("PRAGMA application_id"))
	if err != nil {
		return err
	}
	tables, err := sqlitex.ResultInt64(s.conn.Prep("SELECT count(*) FROM sqlite_schema"))
	if err != nil {
		return err
	}
	if id != applicationID && (id != 0 || tables > 0) {
		return errors.New("the file is a database of another program; give the spool another path")
	}
	for _, setting := range []string{"auto_vacuum=incremental", "journal_mode=wal", "synchronous=full", "journal_size_limit=67108864"} {
		if err := sqlitex.ExecuteTransient(s.conn, "PRAGMA "+setting, nil); err != nil {
			return err
		}
	}
	if id == 0 {
		if err := sqlitex.ExecuteScript(s.conn, schema+fmt.Sprintf("PRAGMA application_id=%d;", applicationID), nil); err != nil {
			return err
		}
	}
	if err := s.count(); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(s.options.Path))
}

// count learns what the file holds.
func (s *Spool) count() error {
	s.stat.Path = s.options.Path
	err := sqlitex.Execute(s.conn, "SELECT count(*), coalesce(sum(stuck), 0), coalesce(sum(size), 0) FROM item",
		&sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			s.stat.Stuck = st.ColumnInt(1)
			s.stat.Events = st.ColumnInt(0) - s.stat.Stuck
			s.stat.Bytes = st.ColumnInt64(2)
			return nil
		}})
	return errors.Join(err, s.findOldest())
}

// findOldest learns since when the oldest item waits; what is stuck waits for nothing. The caller holds mu, or is the
// only one.
func (s *Spool) findOldest() error {
	s.stat.Oldest = time.Time{}
	return sqlitex.Execute(s.conn, "SELECT at FROM item WHERE stuck = 0 ORDER BY seq LIMIT 1",
		&sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			s.stat.Oldest = time.UnixMilli(st.ColumnInt64(0))
			return nil
		}})
}

// Stat implements relay.Spool.
func (s *Spool) Stat() relay.SpoolStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stat
}

// Waiting implements relay.Spool.
func (s *Spool) Waiting() (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, relay.ErrClosed
	}
	waiting := map[string]int{}
	err := sqlitex.Execute(s.conn, "SELECT source, count(*) FROM item WHERE stuck = 0 GROUP BY source",
		&sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			waiting[st.ColumnText(0)] = st.ColumnInt(1)
			return nil
		}})
	return waiting, err
}

// Close implements relay.Spool.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.conn.Close(), s.lock.Unlock())
}

// meta is what an item needs of its accept beside headers and body.
type meta struct {
	ID          string              `json:"id"`
	Task        string              `json:"task"`
	Stage       string              `json:"stage,omitempty"`
	Code        string              `json:"code,omitempty"`
	Key         []byte              `json:"key"`
	Fingerprint []byte              `json:"fp"`
	Origin      relay.Origin        `json:"origin"`
	ReceivedAt  int64               `json:"received"` // microseconds
	Window      int64               `json:"window"`   // microseconds
	Deliveries  []relay.NewDelivery `json:"deliveries"`
}

func encode(a *relay.Accept) []byte {
	e := a.Event
	m := meta{
		ID: e.ID, Task: e.TaskID, Stage: e.Stage, Code: e.Code, Key: e.Key[:], Fingerprint: e.Fingerprint[:],
		Origin: e.Origin, ReceivedAt: e.ReceivedAt.UnixMicro(), Window: a.Window.Microseconds(),
	}
	for i := range a.Deliveries {
		m.Deliveries = append(m.Deliveries, relay.NewDelivery{Destination: a.Deliveries[i].Destination, Ordered: a.Deliveries[i].Ordered})
	}
	b, _ := json.Marshal(m) // strings, bytes and numbers always marshal
	return b
}

func decode(source string, text, headers, body []byte) (*relay.Accept, error) {
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if m.ID == "" || len(m.Key) != sha256.Size || len(m.Fingerprint) != sha256.Size {
		return nil, errors.New("the entry has no id, key or fingerprint")
	}
	h, err := relay.DecodeHeaders(headers)
	if err != nil {
		return nil, err
	}
	e := &relay.Event{
		ID: m.ID, Source: source, TaskID: m.Task, Stage: m.Stage, Code: m.Code, Origin: m.Origin,
		ReceivedAt: time.UnixMicro(m.ReceivedAt), Headers: h, Body: body,
	}
	copy(e.Key[:], m.Key)
	copy(e.Fingerprint[:], m.Fingerprint)
	return &relay.Accept{Event: e, Window: time.Duration(m.Window) * time.Microsecond, Deliveries: m.Deliveries}, nil
}
