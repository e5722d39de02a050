package sqlitestore

import (
	"context"
	"errors"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// A client that hangs up in the middle of a list leaves no connection in its transaction, which would keep the log from
// ever being begun anew.
func TestInterruptedRead(t *testing.T) {
	s := openTemporary(t)
	for range 2 * readers {
		ctx, hangUp := context.WithCancel(t.Context())
		err := s.read(ctx, func(c *sqlitefile.Conn) error {
			hangUp()
			return c.Stmt("SELECT count(*) FROM meta").Exec()
		})
		if err == nil {
			t.Fatal("a read whose client has hung up goes on")
		}
	}
	if _, _, err := s.Events(t.Context(), relay.EventFilter{}); err != nil {
		t.Errorf("after the clients have hung up a list gives %v", err)
	}
	if err := s.truncateLog(); err != nil {
		t.Errorf("the log cannot be begun anew: %v", err)
	}
}

// While somebody reads, the log is not begun anew, and nobody waits for that.
func TestLogWaitsForNobody(t *testing.T) {
	s := openTemporary(t)
	err := s.read(t.Context(), func(c *sqlitefile.Conn) error {
		if _, err := c.Stmt("SELECT 1 FROM meta").Exists(); err != nil {
			return err
		}
		s.write.Lock()
		err := s.saveClock()
		s.write.Unlock()
		if err != nil {
			return err
		}
		if s.truncateLog() == nil {
			return errors.New("the log was begun anew under a reader")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
