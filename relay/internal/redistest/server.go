// Package redistest starts real Redis servers for tests: on private ports, in directories of their own, ended by pid.
package redistest

import (
	"bytes"
	"context"
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

	args []string
	mu   sync.Mutex
	cmd  *exec.Cmd
	log  bytes.Buffer
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
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Dir: dir}
	s.args = append([]string{
		"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0",
	}, args...)
	if err := s.run(); err != nil {
		return nil, err
	}
	return s, nil
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

func (s *Server) run() error {
	binary, err := Binary()
	if err != nil {
		return fmt.Errorf("redis-server is needed for this test: %w", err)
	}
	s.mu.Lock()
	s.cmd = exec.Command(binary, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = s.cmd.Start()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	listens := waitFor(10*time.Second, func() bool {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", s.Addr, time.Second); err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	if !listens {
		s.Kill()
		return fmt.Errorf("redis-server does not listen on %s: %w\n%s", s.Addr, err, s.log.String())
	}
	return nil
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
	_ = s.cmd.Wait() // it was killed: that is the error
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
