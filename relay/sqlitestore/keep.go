package sqlitestore

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	keepEvery   = 2 * time.Second // how often the age of the oldest delivery is looked up, where any is pending
	clockEvery  = time.Minute
	passiveFrom = 32 << 20 // bytes of log from which it is copied into the database, beside the writer
	truncateAt  = 64 << 20 // bytes of log at which the writer has to wait for that
	freeEvery   = time.Second
)

// keep looks after the file until the store is closed: it moves the log into the database, stores the clock, and finds
// the oldest deliveries.
func (s *Store) keep(c *sqlite.Conn) {
	defer func() { _ = c.Close() }()
	c.SetInterrupt(s.stop)
	tick, clock := time.NewTicker(keepEvery), time.NewTicker(clockEvery)
	defer tick.Stop()
	defer clock.Stop()
	ill := ""
	for {
		select {
		case <-s.stop:
			return
		case <-s.walCheck:
			if err := s.index(c); err != nil {
				s.logger.Warn("recent events cannot be indexed; it is tried again", "store", s.path, "error", err)
			}
			ill = s.checkpoint(c, ill)
		case <-tick.C:
			s.measureFree()
			s.findOldest(c)
		case <-clock.C:
			s.write.Lock()
			if err := s.saveClock(); err != nil {
				s.logger.Error("the store's clock cannot be saved", "store", s.path, "error", err)
			}
			s.write.Unlock()
		}
	}
}

// askForCheckpoint wakes keep from time to time. The caller holds write.
func (s *Store) askForCheckpoint() {
	if s.commits++; s.commits%64 == 0 {
		select {
		case s.walCheck <- struct{}{}:
		default:
		}
	}
}

// checkpoint keeps the log short: beside the writer while it can, and with the writer waiting once it is too long. It logs
// what keeps it from that, once until that changes.
func (s *Store) checkpoint(c *sqlite.Conn, before string) (ill string) {
	size, err := s.logSize()
	if err != nil || size < passiveFrom {
		return before
	}
	err = sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(passive)", nil)
	if err == nil && size >= truncateAt {
		err = s.truncateLog()
	}
	if err == nil || s.isClosing() {
		return ""
	}
	if ill = err.Error(); ill != before {
		s.logger.Warn("checkpoint failed; it is tried again", "store", s.path, "error", err)
	}
	return ill
}

// truncateLog makes the writer wait while the rest of the log is copied, which is little by now, and begins the log anew.
// It does not wait for somebody who reads: callbacks would wait too.
func (s *Store) truncateLog() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.conn.SetBusyTimeout(0)
	defer s.conn.SetBusyTimeout(lockWait)
	busy := false
	err := sqlitex.ExecuteTransient(s.conn, "PRAGMA wal_checkpoint(truncate)", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		busy = st.ColumnBool(0)
		return nil
	}})
	if busy {
		err = errors.Join(err, errors.New("somebody reads an old state of the file, so that its log grows"))
	}
	return err
}

// logSize is how much of the log is in use: its file does not shrink when the writer begins anew. The number of frames
// stands in the header of the log's index (https://www.sqlite.org/walformat.html, "The WAL-Index Header": mxFrame).
func (s *Store) logSize() (int64, error) {
	f, err := os.Open(s.path + "-shm")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	const mxFrame, frame = 16, 24 + 4096
	var b [4]byte
	if _, err := f.ReadAt(b[:], mxFrame); err != nil {
		return 0, err
	}
	return int64(binary.NativeEndian.Uint32(b[:])) * frame, nil
}

// saveClock stores the clock beside the wall clock, by which a later start can tell how long the stop took. The caller
// holds write.
func (s *Store) saveClock() error {
	return s.transact(nil, func() error {
		if err := s.setMeta("wall", millis(s.clock.Wall())); err != nil {
			return err
		}
		return s.setMeta("clock", s.clock.now())
	})
}

// findOldest looks up when the oldest pending delivery of each destination was accepted.
func (s *Store) findOldest(c *sqlite.Conn) {
	s.mem.Lock()
	var busy []*destination
	for _, d := range s.byID {
		if d.pending > 0 {
			busy = append(busy, d)
		}
	}
	s.mem.Unlock()
	for _, d := range busy {
		st := c.Prep(`SELECT min(at) FROM (
			SELECT accepted AS at FROM event WHERE seq = (SELECT min(event) FROM (
				SELECT * FROM (SELECT event ` + fromReady + ` ORDER BY event LIMIT 1)
				UNION ALL SELECT min(event) ` + fromWaiting + ` AND since = 0))
			UNION ALL SELECT min(since) ` + fromWaiting + ` AND since > 0)`)
		st.BindInt64(1, d.id)
		var accepted int64
		if err := each(st, func() { accepted = st.ColumnInt64(0) }); err != nil {
			return // the next look is soon
		}
		s.mem.Lock()
		d.oldest, d.oldestKnown = accepted, accepted > 0
		s.mem.Unlock()
	}
}
