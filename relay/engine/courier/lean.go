package courier

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

// defaultHeaderLimit is net/http's bound for the headers of a response, in bytes.
const defaultHeaderLimit = 10 << 20

// Lean is a transport that speaks HTTP/1.1 to one host, without a proxy. An attempt writes its request and reads the
// response itself, so that it costs neither a goroutine nor a hand-off between some: only a request that may be too large
// for the buffers of the connection is written beside. Otherwise it behaves as Connections does.
type Lean struct {
	target  string // the host as the URL names it
	host    string // the host as requests name it
	address string
	dial    dialer
	tls     *tls.Config // nil without TLS
	// handshake bounds a TLS handshake. Zero: only the attempt does.
	handshake   time.Duration
	headerLimit int64
	idle        time.Duration
	announce    bool // whether announcements shorten idle
	age         time.Duration
	now         func() time.Time
	timeouts    atomic.Int32 // in a row
	pool        pool
}

// NewLean returns a client for the host of target, http or https. It opens connections as base would, and keeps as many
// idle ones. A positive idle is how long the operator wants idle ones to be kept, whatever the consumer announces.
func NewLean(base *http.Transport, target *url.URL, idle time.Duration) (*Lean, error) {
	host, err := httpguts.PunycodeHostPort(target.Host)
	if err != nil {
		return nil, err
	}
	u := url.URL{Host: host}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	c := &Lean{
		target: target.Host, host: withoutZone(host), address: net.JoinHostPort(u.Hostname(), port), dial: base.DialContext,
		handshake: base.TLSHandshakeTimeout, headerLimit: base.MaxResponseHeaderBytes,
		idle: idle, age: connectionAge, now: time.Now, pool: pool{most: base.MaxIdleConnsPerHost},
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	if c.headerLimit <= 0 {
		c.headerLimit = defaultHeaderLimit
	}
	if c.idle <= 0 {
		c.idle, c.announce = connectionIdle, true
	}
	if c.pool.most == 0 {
		c.pool.most = http.DefaultMaxIdleConnsPerHost
	}
	if base.MaxIdleConns > 0 {
		c.pool.most = min(c.pool.most, base.MaxIdleConns)
	}
	if target.Scheme == "https" {
		c.tls = new(tls.Config)
		if base.TLSClientConfig != nil {
			c.tls = base.TLSClientConfig.Clone()
		}
		c.tls.NextProtos = []string{"http/1.1"}
		if c.tls.ServerName == "" {
			c.tls.ServerName = u.Hostname()
		}
	}
	return c, nil
}

// CloseIdleConnections closes the connections that serve no request, and lets the others close after theirs.
func (c *Lean) CloseIdleConnections() { c.pool.clear() }

// RoundTrip sends a request, but for HEAD and CONNECT, and returns the response. Attempts do not need the detour by a
// request of net/http. Its errors are those of Connections.
func (c *Lean) RoundTrip(r *http.Request) (*http.Response, error) {
	m, err := c.messageOf(r)
	if err != nil {
		return nil, err
	}
	return c.send(m)
}

// send sends a request whose headers have been set, and returns the response. It keeps to the deadline of the request's
// context without waiting for Done.
func (c *Lean) send(m *message) (*http.Response, error) {
	defer heads.Put(m.head)
	if m.err != nil {
		return nil, &failure{"", connecting, m.err}
	}
	m.complete()
	res, fault := c.try(m, c.pool.get(m.ctx, c.now()))
	if fault != nil && fault.stale && m.ctx.Err() == nil {
		c.pool.clear()
		res, fault = c.try(m, nil)
	}
	if fault == nil {
		if c.timeouts.Load() != 0 {
			c.timeouts.Store(0)
		}
		return res, nil
	}
	if err := m.ctx.Err(); err != nil {
		fault.err = err
	}
	if isTimeout(fault.err) || errors.Is(context.Cause(m.ctx), context.DeadlineExceeded) {
		if c.timeouts.Add(1) >= suspiciousTimeouts {
			c.pool.clear()
		}
	}
	return nil, &fault.failure
}

// fault is why a try failed. It is stale where the fault was a kept connection that was no longer one.
type fault struct {
	failure
	stale bool
}

// try makes one request, on a kept connection or, where l is nil, on a new one.
func (c *Lean) try(m *message, l *link) (*http.Response, *fault) {
	reused := l != nil
	if !reused {
		var err error
		if l, err = c.connect(m.ctx); err != nil {
			return nil, &fault{failure: failure{"", connecting, err}}
		}
		l.follow(m.ctx)
	}
	e := begin(c, l, m.ctx)
	phase, answered, err := e.send(m)
	if err != nil {
		e.abandon()
		return nil, &fault{failure{"", phase, err}, reused && !answered && !isTimeout(err)}
	}
	return e.response, nil
}

// connect opens a connection.
func (c *Lean) connect(ctx context.Context) (*link, error) {
	generation := c.pool.generation()
	if at, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, at)
		defer cancel()
	}
	raw, err := dialed(ctx, c.dial, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if c.tls != nil {
		if c.handshake > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.handshake)
			defer cancel()
		}
		secured := tls.Client(raw, c.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		conn = secured
	}
	return newLink(conn, raw, c, generation), nil
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// isHangUp reports whether a write failed because the other side had hung up; what it sent before can still be read.
func isHangUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// withoutZone returns a host without the zone of an IPv6 address, which means nothing to anyone but this machine.
func withoutZone(host string) string {
	if !strings.HasPrefix(host, "[") {
		return host
	}
	end := strings.LastIndexByte(host, ']')
	zone := strings.IndexByte(host, '%')
	if zone < 0 || end < zone {
		return host
	}
	return host[:zone] + host[end:]
}
