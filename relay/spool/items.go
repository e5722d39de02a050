package spool

import (
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
)

// transact runs change in one transaction, durable when it returns without an error. change gets a copy of what the spool
// knows of itself, which counts from then on.
func (s *Spool) transact(change func(*relay.SpoolStat) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return relay.ErrClosed
	}
	stat := s.stat
	end, err := sqlitex.ImmediateTransaction(s.conn)
	if err == nil {
		err = change(&stat)
		end(&err)
	}
	if err != nil {
		return fmt.Errorf("spool %s: %w", s.options.Path, err)
	}
	s.stat = stat
	_ = s.findOldest() // the change is durable, whatever this says: after the next one it is asked again
	return nil
}

// Append implements relay.Spool.
func (s *Spool) Append(accepts []*relay.Accept) error {
	stat := s.Stat()
	if !stat.Oldest.IsZero() && time.Since(stat.Oldest) > s.options.MaxAge {
		return fmt.Errorf("spool %s: its oldest event waits since %s: %w", s.options.Path, stat.Oldest.Format(time.RFC3339), relay.ErrStoreFull)
	}
	now := time.Now().UnixMilli()
	return s.transact(func(stat *relay.SpoolStat) error {
		st := s.conn.Prep("INSERT INTO item (source, at, size, meta, headers, body) VALUES (?, ?, ?, ?, ?, ?)")
		for _, a := range accepts {
			meta, headers := encode(a), a.Event.Headers.Encode()
			size := int64(len(meta) + len(headers) + len(a.Event.Body))
			stat.Events++
			if stat.Bytes += size; stat.Bytes > s.options.MaxBytes {
				return relay.ErrStoreFull
			}
			st.BindText(1, a.Event.Source)
			st.BindInt64(2, now)
			st.BindInt64(3, size)
			st.BindBytes(4, meta)
			st.BindBytes(5, headers)
			st.BindBytes(6, a.Event.Body)
			if _, err := st.Step(); err != nil {
				return errors.Join(err, st.Reset())
			}
			if err := st.Reset(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Next implements relay.Spool.
func (s *Spool) Next(source string, n int) ([]*relay.Spooled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, relay.ErrClosed
	}
	const mostBytes = 16 << 20 // of what is read at once
	st := s.conn.Prep("SELECT seq, refused, meta, headers, body FROM item WHERE source = ? AND stuck = 0 ORDER BY seq LIMIT ?")
	defer func() { _ = st.Reset() }()
	st.BindText(1, source)
	st.BindInt64(2, int64(n))
	var items []*relay.Spooled
	for room := mostBytes; room > 0; {
		found, err := st.Step()
		if err != nil || !found {
			return items, err
		}
		body := blob(st, 4)
		room -= len(body)
		item := &relay.Spooled{Seq: st.ColumnInt64(0), Refused: st.ColumnInt(1)}
		item.Accept, item.Err = decode(source, blob(st, 2), blob(st, 3), body)
		items = append(items, item)
	}
	return items, nil
}

func blob(st *sqlite.Stmt, column int) []byte {
	b := make([]byte, st.ColumnLen(column))
	st.ColumnBytes(column, b)
	return b
}

// Remove implements relay.Spool.
func (s *Spool) Remove(items []*relay.Spooled) error {
	err := s.transact(func(stat *relay.SpoolStat) error {
		for _, item := range items {
			err := sqlitex.Execute(s.conn, "DELETE FROM item WHERE seq = ? RETURNING size", &sqlitex.ExecOptions{
				Args: []any{item.Seq},
				ResultFunc: func(st *sqlite.Stmt) error {
					stat.Events--
					stat.Bytes -= st.ColumnInt64(0)
					return nil
				},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stat.Events+s.stat.Stuck == 0 && !s.closed {
		_ = sqlitex.ExecuteTransient(s.conn, "PRAGMA incremental_vacuum", nil) // the room is given back some other time
	}
	return nil
}

// Refuse implements relay.Spool.
func (s *Spool) Refuse(item *relay.Spooled, reason string) (stuck bool, err error) {
	item.Refused++
	stuck = item.Err != nil || item.Refused >= relay.MaxRefused
	err = s.transact(func(stat *relay.SpoolStat) error {
		if stuck {
			stat.Events--
			stat.Stuck++
		}
		return sqlitex.Execute(s.conn, "UPDATE item SET refused = ?, stuck = ?, reason = ? WHERE seq = ?",
			&sqlitex.ExecOptions{Args: []any{item.Refused, stuck, reason, item.Seq}})
	})
	return stuck && err == nil, err
}
