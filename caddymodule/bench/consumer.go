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

	mu     sync.Mutex
	timing bool
	took   []time.Duration // from sending to arrival
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
		if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
		c.count.Add(1)
		c.time(body[c.taskAt:], now)
	}
}

// time keeps how long a callback took.
func (c *consumer) time(task []byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.timing {
		return
	}
	if sent, err := strconv.ParseInt(string(task[:16]), 16, 64); err == nil {
		c.took = append(c.took, time.Duration(now.UnixNano()-sent))
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
