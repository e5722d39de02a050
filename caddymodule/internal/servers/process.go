// Package servers starts the processes that are looked at from outside: gateways and Redis servers, on private ports of
// loopback, ended by their ids. Tests, the benchmark and the fault suite use it.
package servers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running program with what it logs.
type Process struct {
	Cmd   *exec.Cmd
	Ended chan struct{} // closed when it has ended and its output was read

	killed  context.Context // ends with Kill
	killing context.CancelFunc

	mu    sync.Mutex
	lines []string
	news  chan struct{} // closed and replaced at each line
	flows chan struct{} // closed while the output is read
}

// Start starts a command. The caller ends it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Ended: make(chan struct{}), news: make(chan struct{}), flows: make(chan struct{})}
	close(p.flows)
	p.killed, p.killing = context.WithCancel(context.Background())
	r, w, err := os.Pipe() // a pipe of our own: Wait then does not close what is still being read
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	go p.read(r)
	return p, nil
}

func (p *Process) read(r *os.File) {
	defer close(p.Ended)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		close(p.news)
		p.news = make(chan struct{})
		flows := p.flows
		p.mu.Unlock()
		select {
		case <-flows:
		case <-p.killed.Done():
		}
	}
	_ = r.Close()
	_ = p.Cmd.Wait()
	p.killing()
}

// Stall leaves the output unread until flow is called, or the process is killed.
func (p *Process) Stall() (flow func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	flows := make(chan struct{})
	p.flows = flows
	return sync.OnceFunc(func() { close(flows) })
}

// Kill ends the process as a crash would, and waits.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // fails only where it has ended already
	p.killing()
	<-p.Ended
}

// Stop asks the process to end and waits, but no longer than within.
func (p *Process) Stop(within time.Duration) error {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // fails only where it has ended already
	select {
	case <-p.Ended:
		return nil
	case <-time.After(within):
		return fmt.Errorf("%s does not stop within %s", p.Cmd.Args[0], within)
	}
}

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// Logged returns the lines of the output that contain a text.
func (p *Process) Logged(text string) []string {
	found, _ := p.search(text)
	return found
}

func (p *Process) search(text string) (found []string, news <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found, p.news
}

// Await waits for a line of the output. It returns false if the process or the time ends before there is one.
func (p *Process) Await(text string, within time.Duration) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		found, news := p.search(text)
		if len(found) > 0 {
			return true
		}
		select {
		case <-news:
		case <-p.Ended:
			return len(p.Logged(text)) > 0
		case <-deadline.C:
			return false
		}
	}
}

// Last returns the last lines of the output, n at most.
func (p *Process) Last(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines[max(0, len(p.lines)-n):]...)
}
