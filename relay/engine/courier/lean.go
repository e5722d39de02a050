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
	scheme  string
	host    string // of requests that have none of their own
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
		scheme: target.Scheme, host: withoutZone(host), address: net.JoinHostPort(u.Hostname(), port), dial: base.DialContext,
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

// RoundTrip sends a request, whose ContentLength must be that of its body, and returns the response. It keeps to the
// deadline of the request's context without waiting for Done. Its errors are those of Connections.
func (c *Lean) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	res, fault := c.try(r, c.pool.get(ctx, c.now()))
	if fault != nil && fault.stale && ctx.Err() == nil {
		if again, ok := repeatable(r); ok {
			c.pool.clear()
			res, fault = c.try(again, nil)
		}
	}
	if fault == nil {
		if c.timeouts.Load() != 0 {
			c.timeouts.Store(0)
		}
		return res, nil
	}
	if err := ctx.Err(); err != nil {
		fault.err = err
	}
	if isTimeout(fault.err) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
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
func (c *Lean) try(r *http.Request, l *link) (*http.Response, *fault) {
	head, err := c.head(r)
	if err != nil {
		if l != nil {
			l.close()
		}
		return nil, &fault{failure: failure{"", connecting, err}}
	}
	defer heads.Put(head)
	reused := l != nil
	if !reused {
		if l, err = c.connect(r.Context()); err != nil {
			return nil, &fault{failure: failure{"", connecting, err}}
		}
		l.follow(r.Context())
	}
	e := begin(c, l, r)
	phase, answered, err := e.send(head)
	if err != nil {
		e.abandon()
		stale := reused && !answered && !isTimeout(err)
		return nil, &fault{failure{"", phase, err}, stale}
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
