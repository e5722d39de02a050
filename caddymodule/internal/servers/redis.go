package servers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// redisWithin is how long Redis may take to start, and to answer.
const redisWithin = 20 * time.Second

// Redis is a redis-server. Its process comes and goes; its address and its data stay.
type Redis struct {
	*Process // nil while there is none

	Address string
	args    []string
}

// NewRedis returns a Redis with an append-only file in dir, which runs once it is started. args are added to those of
// redis-server, and win.
func NewRedis(dir string, args ...string) (*Redis, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return &Redis{Address: address, args: append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes",
	}, args...)}, nil
}

// MasterName is the name of the master for a Sentinel.
const MasterName = "main"

// NewSentinel returns a Sentinel that watches a master once it is started, and fails it over after half a second without it.
func NewSentinel(dir string, master *Redis) (*Redis, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	_, masterPort, err := net.SplitHostPort(master.Address)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\n", port, dir) +
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s 1\n", MasterName, masterPort) +
		fmt.Sprintf("sentinel down-after-milliseconds %s 500\n", MasterName) +
		fmt.Sprintf("sentinel failover-timeout %s 5000\n", MasterName)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return &Redis{Address: address, args: []string{config, "--sentinel"}}, nil
}

// Start starts the process, and returns when it has read its data.
func (r *Redis) Start() error {
	cmd := exec.Command("redis-server", r.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	process, err := Start(cmd)
	if err != nil {
		return fmt.Errorf("redis-server (from Debian's package of that name): %w", err)
	}
	r.Process = process
	deadline := time.NewTimer(redisWithin)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if reply, err := r.Ask("PING"); err == nil && reply == "+PONG" {
			return nil
		}
		select {
		case <-again.C:
		case <-process.Ended:
			return fmt.Errorf("redis-server has ended:\n%s", strings.Join(process.Last(10), "\n"))
		case <-deadline.C:
			r.Kill()
			return fmt.Errorf("redis-server does not answer on %s", r.Address)
		}
	}
}

// Kill ends Redis as a crash would.
func (r *Redis) Kill() {
	if r.Process != nil {
		r.Process.Kill()
		r.Process = nil
	}
}

// Signal sends a signal.
func (r *Redis) Signal(s syscall.Signal) error {
	if r.Process == nil {
		return errors.New("redis-server does not run")
	}
	return r.Cmd.Process.Signal(s)
}

// Ask sends an inline command, and returns the reply, if that is no array.
func (r *Redis) Ask(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", r.Address, redisWithin)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(redisWithin)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil || line[0] != '$' {
		return strings.TrimSpace(line), err
	}
	size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil || size < 0 {
		return "", err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(reader, text); err != nil {
		return "", err
	}
	return string(text), nil
}

// Do sends an inline command that must be answered by a text, or OK.
func (r *Redis) Do(command string) (string, error) {
	reply, err := r.Ask(command)
	if err == nil && strings.HasPrefix(reply, "-") {
		err = fmt.Errorf("%s: %s", command, reply)
	}
	return reply, err
}
