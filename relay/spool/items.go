package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// transact runs change in one transaction, durable when it returns without an error. change gets a copy of what the spool
// knows of itself, which counts from then on. The caller holds mu.
func (s *Spool) transact(change func(*relay.SpoolStat) error) error {
	if err := s.ready(); err != nil {
		return err
	}
	stat := *s.stat.Load()
	if err := s.db.Write(func() error { return change(&stat) }); err != nil {
		if ill := s.db.Health(); errors.Is(ill, err) {
			return ill
		}
		return fmt.Errorf("spool %s: %w", s.options.Path, err)
	}
	// The change is durable, whatever these say: after the next one they are tried again.
	_ = guard.Step(func() error { return s.findOldest(&stat) })
	_ = guard.Step(s.copyLog)
	s.stat.Store(&stat)
	return nil
}

// copyLog keeps the log short.
func (s *Spool) copyLog() error {
	size, err := s.db.LogBytes()
	if size < copyLogFrom || err != nil {
		return err
	}
	return s.db.Writer.Pragma("wal_checkpoint(passive)")
}

// read runs what only reads. A fault of the file is found by it too.
func (s *Spool) read(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.db.Check(); err != nil {
		return err
	}
	err := guard.Step(f)
	if guard.Faulted(err) {
		return s.db.Break(err)
	}
	return err
}

// Append implements relay.Spool.
func (s *Spool) Append(accepts []*relay.Accept) error {
	if err := s.young(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transact(func(stat *relay.SpoolStat) error {
		for _, a := range accepts {
			meta, headers := encode(a), a.Event.EncodedHeaders()
			if err := s.insert(stat, a.Event.Source, meta, headers, a.Event.Body); err != nil {
				return err
			}
		}
		return nil
	})
}

// AppendTask implements relay.Spool.
func (s *Spool) AppendTask(e *relay.Expectation) error {
	if err := s.young(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transact(func(stat *relay.SpoolStat) error { return s.insert(stat, e.Source, encodeTask(e), nil, nil) })
}

// insert adds an entry, if there is room for it.
func (s *Spool) insert(stat *relay.SpoolStat, source string, meta, headers, body []byte) error {
	size := int64(len(meta) + len(headers) + len(body))
	stat.Events++
	if stat.Bytes += size; stat.Bytes > s.options.MaxBytes {
		return fmt.Errorf("it holds as many of its %d bytes as it can until the store takes them: %w", s.options.MaxBytes, relay.ErrStoreFull)
	}
	st := s.db.Writer.Stmt("INSERT INTO item (source, at, size, meta, headers, body) VALUES (?, ?, ?, ?, ?, ?)")
	st.BindText(1, source)
	st.BindInt64(2, time.Now().UnixMilli())
	st.BindInt64(3, size)
	st.BindBytes(4, meta)
	st.BindBytes(5, headers)
	st.BindBytes(6, body)
	return st.Exec()
}

// young returns an error if the oldest entry has waited for too long for others to join it.
func (s *Spool) young() error {
	stat := s.Stat()
	if !stat.Oldest.IsZero() && time.Since(stat.Oldest) > s.options.MaxAge {
		return fmt.Errorf("spool %s: its oldest event waits since %s: %w", s.options.Path, stat.Oldest.Format(time.RFC3339), relay.ErrStoreFull)
	}
	return nil
}

// Next implements relay.Spool.
func (s *Spool) Next(source string, n int) (items []*relay.Spooled, err error) {
	const mostBytes = 16 << 20 // read at once
	err = s.read(func() error {
		st := s.db.Writer.Stmt("SELECT seq, refused, meta, headers, body FROM item WHERE seq > ? AND source = +? AND stuck = 0 ORDER BY seq")
		st.BindText(2, source)
		room := mostBytes
		return s.unwritten.waiting(source, st, func(st *sqlitefile.Stmt) (full bool, err error) {
			body := st.ColumnBlob(4)
			room -= len(body)
			item := &relay.Spooled{Seq: st.ColumnInt64(0)}
			item.Refused = max(st.ColumnInt(1), s.unwritten.fates[item.Seq].refused)
			item.Accept, item.Task, item.Err = decode(source, st.ColumnBlob(2), st.ColumnBlob(3), body)
			items = append(items, item)
			return room <= 0 || len(items) >= n, nil
		})
	})
	return items, err
}
