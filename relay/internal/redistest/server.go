// Package redistest starts real Redis servers for tests: on private ports, in directories of their own, ended by pid.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a running redis-server. Its methods fail the test.
type Server struct {
	Addr string
	Dir  string

	args  []string
	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has
}

// Binary finds redis-server.
func Binary() (string, error) { return exec.LookPath("redis-server") }

// Start starts a server with an append-only file, and ends it with the test. args are further arguments of redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := Launch(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// Launch starts a server in dir. The caller ends it.
func Launch(dir string, args ...string) (*Server, error) {
	return launch(dir, FreePort, func(port int) ([]string, error) {
		return append([]string{
			"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0",
		}, args...), nil
	})
}

// launch starts a server on a port that it chooses. Where somebody else gets the port first, it chooses another.
func launch(dir string, choose func() (int, error), args func(port int) ([]string, error)) (s *Server, err error) {
	for range 3 {
		port, err := choose()
		if err != nil {
			return nil, err
		}
		s = &Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Dir: dir}
		if s.args, err = args(port); err != nil {
			return nil, err
		}
		if err = s.run(); !errors.Is(err, errEnded) {
			return s, err
		}
	}
	return nil, err
}

// FreePort returns a port that nobody listens on. A Cluster's bus uses the port ten thousand above, so it is not higher
// than that allows.
func FreePort() (int, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil || port < 55000 {
			return port, err
		}
	}
}

// errEnded is why a server does not listen that has ended by itself, as it does where its port is taken.
var errEnded = errors.New("it has ended")

// run starts the process and waits until it listens. That is known from what it says: on its port somebody else may answer.
func (s *Server) run() error {
	binary, err := Binary()
	if err != nil {
		return fmt.Errorf("redis-server is needed for this test: %w", err)
	}
	log := &log{listens: make(chan struct{})}
	cmd := exec.Command(binary, s.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan struct{})
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	go func() {
		_ = cmd.Wait() // the log says why
		close(ended)
	}()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-log.listens:
		return nil
	case <-ended:
		err = errEnded
	case <-late.C:
		err = context.DeadlineExceeded
	}
	s.Kill()
	return fmt.Errorf("redis-server does not listen on %s: %w\n%s", s.Addr, err, log.text.String())
}

// log holds what a server says.
type log struct {
	listens chan struct{} // closed when it does
	text    bytes.Buffer
}

// Write implements io.Writer, for one goroutine.
func (l *log) Write(p []byte) (int, error) {
	before := l.serves()
	l.text.Write(p)
	if !before && l.serves() {
		close(l.listens)
	}
	return len(p), nil
}

// serves reports whether the server, or the Sentinel, has said that it serves.
func (l *log) serves() bool {
	return bytes.Contains(l.text.Bytes(), []byte("Ready to accept connections")) || bytes.Contains(l.text.Bytes(), []byte("Sentinel ID is"))
}

// Kill ends the server at once, as a crash would. Its directory stays.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Restart starts a killed server again, on its port and with its data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// Wipe deletes the data of a killed server.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	for _, name := range []string{"appendonlydir", "appendonly.aof", "dump.rdb"} {
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// Suspend stops the server without closing its connections, and Resume lets it go on.
func (s *Server) Suspend(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Resume lets a suspended server go on.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Client returns a client of the server, for the test's own look at it. It ends with the test.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr, Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Do sends one command, and fails the test on an error.
func (s *Server) Do(t testing.TB, args ...any) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reply, err := s.Client(t).Do(ctx, args...).Result()
	if err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(fmt.Sprint(args...)), err)
	}
	return reply
}

// Eventually waits until a condition holds, and fails the test if that takes longer than `within`.
func Eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	if !waitFor(within, holds) {
		t.Fatalf("not within %v: %s", within, what)
	}
}

// waitFor reports whether a condition comes to hold in time.
func waitFor(within time.Duration, holds func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}
