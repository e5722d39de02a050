package sqlitestore

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// shell is a sqlite3 shell on a file: another process, as an operator has it.
type shell struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func openShell(t *testing.T, path string) *shell {
	t.Helper()
	s := &shell{t: t, cmd: exec.CommandContext(t.Context(), "sqlite3", "-batch", path)}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out, s.cmd.Stderr = bufio.NewScanner(out), s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs statements and returns what the shell says to them.
func (s *shell) run(statements string) string {
	s.t.Helper()
	const end = "that was all"
	if _, err := io.WriteString(s.in, statements+"\n.print "+end+"\n"); err != nil {
		s.t.Fatal(err)
	}
	var said []string
	for s.out.Scan() {
		if s.out.Text() == end {
			return strings.Join(said, "\n")
		}
		said = append(said, s.out.Text())
	}
	s.t.Fatalf("the shell has ended: %v", s.out.Err())
	return ""
}

func (s *shell) close() {
	s.t.Helper()
	if err := s.in.Close(); err != nil {
		s.t.Error(err)
	}
	_ = s.cmd.Wait() // its status is that of the last statement
}

// What callbacks get is what health says: an operator's shell that holds the lock is the reason of both.
func TestBlocked(t *testing.T) {
	p := newPatient(t)
	p.fill(3)
	other := openShell(t, p.path)
	if said := other.run("BEGIN IMMEDIATE;"); said != "" {
		t.Fatal(said)
	}
	p.tend()
	if err := p.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "another process holds its lock") {
		t.Errorf("while another process holds the lock health is %v", err)
	}
	p.db.Writer.SetBusyTimeout(0) // rather than 10 s
	batch := &relay.Batch{Accepts: []*relay.Accept{newAccept("one"), newAccept("two")}}
	p.Apply(t.Context(), batch)
	for _, a := range batch.Accepts {
		if !errors.Is(a.Err, relay.ErrUnavailable) {
			t.Errorf("a callback is answered with %v", a.Err)
		}
	}
	other.run("ROLLBACK;")
	other.close()
	p.wantWell()
	if log := p.log.String(); !strings.Contains(log, "another process holds its lock") || !strings.Contains(log, "healthy again") {
		t.Errorf("the log says %s", log)
	}
}

// A write that waits shows before it fails.
func TestBlockedWrite(t *testing.T) {
	p := newPatient(t)
	other := openShell(t, p.path)
	defer other.close()
	if said := other.run("BEGIN IMMEDIATE;"); said != "" {
		t.Fatal(said)
	}
	p.db.Writer.SetBusyTimeout(5 * time.Second)
	done := make(chan error, 1)
	go func() { done <- p.accept(newAccept("waits")) }()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if err := p.Health(t.Context()); err != nil {
				if !strings.Contains(err.Error(), "has been waiting") {
					t.Errorf("while a write waits health is %v", err)
				}
				other.run("ROLLBACK;")
				p.must(<-done)
				p.wantWell()
				return
			}
		case err := <-done:
			t.Fatalf("the write gave %v, and health never said that it waits", err)
		}
	}
}

// Nothing that the store does to its files sets its locks free: another process would take the file for abandoned, and cut
// the log's index under it.
func TestLocksStay(t *testing.T) {
	p := newPatient(t)
	p.fill(3)
	if _, err := p.db.LogBytes(); err != nil {
		t.Fatal(err)
	}
	p.tend()
	err := p.db.Write(func() error {
		other := openShell(t, p.path)
		defer other.close()
		said := other.run("BEGIN IMMEDIATE;\nROLLBACK;")
		if !strings.Contains(said, "locked") {
			t.Errorf("another process gets the lock while this one writes: %q", said)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p.wantWell()
}
