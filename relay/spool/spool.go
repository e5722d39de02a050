// Package spool keeps accepts in a SQLite file of the gateway's own, while the store that several gateways share cannot
// accept them.
package spool

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	// DefaultMaxBytes is how much a spool holds.
	DefaultMaxBytes = 1 << 30
	// DefaultMaxAge is how old its oldest entry may be before it accepts no more.
	DefaultMaxAge = 30 * 24 * time.Hour

	applicationID = 0x52656c73 // "Rels"
	// copyLogFrom is how many bytes of log are copied into the database at once.
	copyLogFrom = 4 << 20
	// mendEvery bounds how often the file is opened anew after a fault.
	mendEvery = time.Second
)

// migrations bring a file from the version of their index to the next one. They are never changed, only added to.
var migrations = []string{schema}

//go:embed schema.sql
var schema string

// Options set where the spool is, and how much it holds.
type Options struct {
	Path     string
	MaxBytes int64
	MaxAge   time.Duration
}

// Spool implements relay.Spool.
type Spool struct {
	options Options

	mu        sync.Mutex
	db        *sqlitefile.DB
	closed    bool
	mended    time.Time // when that was last tried
	unwritten unwritten

	stat atomic.Pointer[relay.SpoolStat] // set with mu, and never nil; without the free space
	free atomic.Int64
}

var _ relay.Spool = (*Spool)(nil)

// Open opens the spool, and creates it where there is none. relay.ErrStoreLocked (wrapped) means that another process still
// has it after 10 s, relay.ErrStoreHeld (wrapped) that this one has.
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
	s := &Spool{options: o, unwritten: newUnwritten()}
	s.db, err = sqlitefile.Open(ctx, sqlitefile.Options{
		Path: o.Path, Kind: "spool", ApplicationID: applicationID, Migrations: migrations, Settings: []string{"auto_vacuum=incremental"},
	})
	if err != nil {
		return nil, err
	}
	if err := s.count(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", o.Path, err), s.db.Close())
	}
	s.measureFree()
	return s, nil
}

// count learns what the file holds.
func (s *Spool) count() error {
	stat := &relay.SpoolStat{Path: s.options.Path}
	st := s.db.Writer.Stmt("SELECT count(*), coalesce(sum(stuck), 0), coalesce(sum(size), 0) FROM item")
	if err := st.Each(func() {
		stat.Stuck = st.ColumnInt(1)
		stat.Events = st.ColumnInt(0) - stat.Stuck
		stat.Bytes = st.ColumnInt64(2)
	}); err != nil {
		return err
	}
	if err := s.findUnwritten(); err != nil {
		return err
	}
	for _, f := range s.unwritten.fates {
		f.count(stat)
	}
	if err := s.findOldest(stat); err != nil {
		return err
	}
	s.stat.Store(stat)
	return nil
}

// findOldest learns since when the oldest item waits; what is stuck waits for nothing. The caller holds mu, or is the
// only one.
func (s *Spool) findOldest(stat *relay.SpoolStat) error {
	stat.Oldest = time.Time{}
	st := s.db.Writer.Stmt("SELECT seq, at FROM item WHERE seq > ? AND stuck = 0 ORDER BY seq")
	return s.unwritten.waiting(anySource, st, func(st *sqlitefile.Stmt) (found bool, err error) {
		stat.Oldest = time.UnixMilli(st.ColumnInt64(1))
		return true, nil
	})
}

// ready returns nil if the file can be used, which it opens anew after a fault. The caller holds mu.
func (s *Spool) ready() error {
	if s.closed {
		return relay.ErrClosed
	}
	if fault := s.db.Fault(); fault == nil || time.Since(s.mended) < mendEvery {
		return fault
	}
	s.mended = time.Now()
	if err := s.db.Mend(); err != nil {
		return err
	}
	if err := guard.Step(s.count); err != nil {
		return s.db.Break(err)
	}
	return nil
}

// measureFree learns the free space on the disk.
func (s *Spool) measureFree() { s.free.Store(sqlitefile.FreeBytes(s.options.Path)) }

// Stat implements relay.Spool.
func (s *Spool) Stat() relay.SpoolStat {
	stat := *s.stat.Load()
	stat.Free = s.free.Load()
	if err := s.db.Health(); err != nil {
		stat.Error = err.Error()
	}
	return stat
}

// Probe implements relay.Spool.
func (s *Spool) Probe() error {
	s.measureFree()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db.Health() != nil {
		if err := s.ready(); err != nil {
			return err
		}
		_ = s.db.Probe(func() error { return s.db.Writer.Pragma(fmt.Sprintf("application_id=%d", applicationID)) }) // which health says
		if err := s.db.Health(); err != nil {
			return err
		}
	}
	if len(s.unwritten.fates) == 0 {
		return nil
	}
	return s.writeUnwritten()
}

// Waiting implements relay.Spool.
func (s *Spool) Waiting() (map[string]int, error) {
	waiting := map[string]int{}
	err := s.read(func() error {
		st := s.db.Writer.Stmt("SELECT source, count(*) FROM item WHERE stuck = 0 GROUP BY source")
		return st.Each(func() { waiting[st.ColumnText(0)] = st.ColumnInt(1) })
	})
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
	return s.db.Close()
}

// meta is the part of an accept that an item stores beside headers and body.
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
	Separate    bool                `json:"separate,omitempty"`
	ByKey       bool                `json:"by_key,omitempty"`
	Ends        relay.Ending        `json:"ends,omitempty"`
	Deliveries  []relay.NewDelivery `json:"deliveries"`
}

func encode(a *relay.Accept) []byte {
	e := a.Event
	m := meta{
		ID: e.ID, Task: e.TaskID, Stage: e.Stage, Code: e.Code, Key: e.Key[:], Fingerprint: e.Fingerprint[:],
		Origin: e.Origin, ReceivedAt: e.ReceivedAt.UnixMicro(), Window: a.Window.Microseconds(), Separate: a.Separate, ByKey: a.ByKey, Ends: a.Ends,
	}
	for i := range a.Deliveries {
		m.Deliveries = append(m.Deliveries, relay.NewDelivery{Destination: a.Deliveries[i].Destination, Ordered: a.Deliveries[i].Ordered, Behind: a.Deliveries[i].Behind})
	}
	b, _ := json.Marshal(m) // strings, bytes and numbers always marshal
	return b
}

// taskMeta is the meta of an entry that registers a task. That of an accept has no "expect".
type taskMeta struct {
	Expect string `json:"expect"` // the task's id
	API    string `json:"api,omitempty"`
	At     int64  `json:"at"`    // microseconds
	After  int64  `json:"after"` // microseconds
	Most   int    `json:"most"`
}

func encodeTask(e *relay.Expectation) []byte {
	b, _ := json.Marshal(taskMeta{e.TaskID, e.API, e.At.UnixMicro(), e.After.Microseconds(), e.Most}) // strings and numbers always marshal
	return b
}

// decode reads an entry: an accept, or the registration of a task.
func decode(source string, text, headers, body []byte) (*relay.Accept, *relay.Expectation, error) {
	var t taskMeta
	if len(body) == 0 && json.Unmarshal(text, &t) == nil && t.Expect != "" {
		return nil, &relay.Expectation{
			ExpectedTask: relay.ExpectedTask{Source: source, TaskID: t.Expect, API: t.API, At: time.UnixMicro(t.At)},
			After:        time.Duration(t.After) * time.Microsecond, Most: t.Most,
		}, nil
	}
	a, err := decodeAccept(source, text, headers, body)
	return a, nil, err
}

func decodeAccept(source string, text, headers, body []byte) (*relay.Accept, error) {
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
	return &relay.Accept{Event: e, Window: time.Duration(m.Window) * time.Microsecond, Separate: m.Separate, ByKey: m.ByKey, Ends: m.Ends, Deliveries: m.Deliveries}, nil
}
