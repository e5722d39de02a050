package sqlitefile

import (
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Conn is a connection, for one goroutine at a time. Nothing that can be called on it panics because of an error of
// SQLite (12), as sqlite.Conn.Prep does: this is the only package that may import the driver.
type Conn struct {
	conn  *sqlite.Conn
	stmts map[string]*Stmt
}

func connect(path string, flags sqlite.OpenFlags, settings ...string) (*Conn, error) {
	conn, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, stmts: map[string]*Stmt{}}
	// What a statement sorts or sets aside stays in memory: a file for it might not be had when it is needed.
	for _, s := range append([]string{"temp_store=memory"}, settings...) {
		if err := c.Pragma(s); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// Stmt returns the statement of a query, without its last parameters. It is prepared once and kept.
func (c *Conn) Stmt(query string) *Stmt {
	s := c.stmts[query]
	if s == nil {
		st, err := c.conn.Prepare(query)
		s = &Stmt{st: st, err: err}
		if err == nil {
			c.stmts[query] = s
		}
		return s
	}
	if s.err = s.st.Reset(); s.err == nil {
		s.err = s.st.ClearBindings()
	}
	return s
}

// Pragma sets something, or has something done.
func (c *Conn) Pragma(setting string) error {
	return sqlitex.ExecuteTransient(c.conn, "PRAGMA "+setting, nil)
}

// Changes returns how many rows the last statement changed.
func (c *Conn) Changes() int { return c.conn.Changes() }

// LastInsertRowID returns the row id that the last INSERT set.
func (c *Conn) LastInsertRowID() int64 { return c.conn.LastInsertRowID() }

// SetBusyTimeout sets how long a statement waits for the lock of another connection.
func (c *Conn) SetBusyTimeout(d time.Duration) { c.conn.SetBusyTimeout(d) }

// SetInterrupt has statements fail once the channel is closed.
func (c *Conn) SetInterrupt(done <-chan struct{}) { c.conn.SetInterrupt(done) }

// transact runs change in a transaction, which is durable when it returns nil. Anything else, a panic of change too, rolls
// it back. What comes of BEGIN or COMMIT wraps relay.ErrUnavailable: it is nothing that change did.
func (c *Conn) transact(change func() error) error {
	err := guard.Step(func() error {
		if err := c.Stmt("BEGIN IMMEDIATE").Exec(); err != nil {
			return notDone(err)
		}
		if err := change(); err != nil {
			return err
		}
		if err := c.Stmt("COMMIT").Exec(); err != nil {
			return notDone(err)
		}
		return nil
	})
	return errors.Join(err, c.rollBack())
}

// notDone returns an error as one that wraps relay.ErrUnavailable.
func notDone(err error) error {
	if errors.Is(err, relay.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
}

// rollBack ends a transaction, if there is one: some errors have done that already.
func (c *Conn) rollBack() error {
	if c.conn.AutocommitEnabled() {
		return nil
	}
	return guard.Step(func() error { return c.Stmt("ROLLBACK").Exec() })
}

// script runs statements in one transaction.
func (c *Conn) script(statements string) error {
	return guard.Step(func() error { return sqlitex.ExecuteScript(c.conn, statements, nil) }) // which panics if it cannot begin
}

func (c *Conn) close() error {
	if c == nil {
		return nil
	}
	return guard.Step(c.conn.Close)
}
