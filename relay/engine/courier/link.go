package courier

import (
	"bufio"
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

var errLimit = errors.New("too many bytes were received")

// link is a connection of Lean.
type link struct {
	net.Conn
	raw        syscall.RawConn // of the socket beneath; nil where it is not known
	reader     *bufio.Reader   // of this link
	limit      int64           // how many bytes may still be received
	generation int
	old        time.Time       // when it may not be used any more
	idle       time.Duration   // how long it may be idle
	until      time.Time       // when an idle one is closed
	done       <-chan struct{} // of the context whose end breaks the link off; nil: none
	unfollow   func() bool
}

func newLink(conn, socket net.Conn, c *Lean, generation int) *link {
	l := &link{Conn: conn, generation: generation, old: c.now().Add(c.age), idle: c.idle}
	if s, ok := socket.(syscall.Conn); ok {
		l.raw, _ = s.SyscallConn() // without it, a repetition finds out what a look would have
	}
	l.reader = bufio.NewReader(l)
	return l
}

// Read reads what was received, within the limit.
func (l *link) Read(p []byte) (int, error) {
	if l.limit <= 0 {
		return 0, errLimit
	}
	n, err := l.Conn.Read(p[:min(int64(len(p)), l.limit)])
	l.limit -= int64(n)
	return n, err
}

// follow has the end of a context, and no other one's, break off what the link does. It reports false where the one before
// has ended meanwhile. That a context is followed already is recognised, so that it is not asked for each request again.
func (l *link) follow(ctx context.Context) bool {
	if l.done == ctx.Done() {
		return true
	}
	if !l.alone() {
		return false
	}
	if l.done = ctx.Done(); l.done != nil {
		l.unfollow = context.AfterFunc(ctx, func() { _ = l.SetDeadline(past) })
	}
	return true
}

// alone has no context break off the link any more. It reports false where one has.
func (l *link) alone() bool {
	if l.done == nil {
		return true
	}
	l.done = nil
	return l.unfollow()
}

// bound sets the time at which all reading and writing ends, unless the context has ended it already.
func (l *link) bound(ctx context.Context, set func(time.Time) error, at time.Time) {
	_ = set(at) // an error would be that of the next write or read
	if ctx.Err() != nil {
		_ = set(past)
	}
}

// quiet reports whether nothing was received on an idle connection: neither its end, nor an answer without a request, as
// some servers send before they close, which would be taken for the answer of the next one.
func (l *link) quiet() bool { return l.raw == nil || nothingToRead(l.raw) }

func (l *link) close() {
	l.alone()
	_ = l.Close()
}
