package main

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// consumer answers 200 as cheaply as it can, and counts.
type consumer struct {
	listener net.Listener
	taskAt   int // where the task id stands in a callback
	count    atomic.Int64

	down atomic.Bool // it answers 503 and takes nothing

	mu     sync.Mutex
	timing bool
	took   []time.Duration  // from sending to arrival
	ledger map[int]struct{} // the numbers of the tasks that arrived, if it is kept
}

func (b *bench) newConsumer() (*consumer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &consumer{listener: listener, taskAt: strings.Index(b.callback, taskMark)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c, nil
}

func (c *consumer) address() string { return c.listener.Addr().String() }

func (c *consumer) close() { _ = c.listener.Close() }

func (c *consumer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 4<<10)
	body := make([]byte, c.taskAt+len(taskMark))
	for {
		if _, err := r.ReadSlice('\n'); err != nil {
			return // the gateway has closed the connection
		}
		if err := skipMessage(r, body); err != nil {
			return
		}
		now := time.Now()
		if c.down.Load() {
			if _, err := conn.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")); err != nil {
				return
			}
			continue
		}
		if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
		c.count.Add(1)
		c.note(body[c.taskAt:], now)
	}
}

// note keeps how long a callback took, and its number.
func (c *consumer) note(task []byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ledger != nil {
		if n, err := strconv.ParseInt(string(task[16:]), 16, 64); err == nil {
			c.ledger[int(n)] = struct{}{}
		}
	}
	if !c.timing {
		return
	}
	if sent, err := strconv.ParseInt(string(task[:16]), 16, 64); err == nil {
		c.took = append(c.took, time.Duration(now.UnixNano()-sent))
	}
}

// keepLedger begins to keep the numbers of the tasks that arrive; distinct returns how many there are.
func (c *consumer) keepLedger() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger = map[int]struct{}{}
}

func (c *consumer) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ledger)
}

// flap switches the consumer between down and up until stop is closed, and leaves it up.
func (c *consumer) flap(stop <-chan struct{}) {
	defer c.down.Store(false)
	for {
		length := soakUp
		if c.down.Load() {
			length = soakDown
		}
		change := time.NewTimer(length)
		select {
		case <-stop:
			change.Stop()
			return
		case <-change.C:
			c.down.Store(!c.down.Load())
		}
	}
}

// startTiming begins to keep how long callbacks take; stopTiming gives what was kept.
func (c *consumer) startTiming() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timing = true
}

func (c *consumer) stopTiming() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := c.took
	c.timing, c.took = false, nil
	return took
}
