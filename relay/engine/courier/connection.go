package courier

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
)

const (
	connectionAge  = 5 * time.Minute  // what a name resolves to may move
	connectionIdle = 60 * time.Second // shorter than what load balancers commonly allow

	// An HTTP/2 connection on which nothing is heard is pinged after the one, and given up after the other besides.
	pingAfter  = 15 * time.Second
	pingWithin = 15 * time.Second

	// So many timeouts in a row speak against the connection, not only against the consumer behind it.
	suspiciousTimeouts = 2
)

// Connections is a transport that keeps the connections to one destination, and bounds for how long:
//
//   - None is used for requests once it is 5 minutes old, and an idle one is closed after 60 s, or a second before the
//     time that the consumer announces by Keep-Alive.
//   - HTTP/2 connections are pinged; after two timeouts in a row new connections are used.
//   - A request that fails on a kept connection, before any byte of the response, is repeated once on a new one.
//   - What a consumer answers before it hangs up counts, even if it did not read the whole request.
//
// A transport of net/http can do none of the former but pings. So this one replaces it as a whole by a copy whenever its
// connections should not be used any more: those in use serve their requests to the end, and close.
type Connections struct {
	base     *http.Transport // copied, never used
	idle     time.Duration
	announce bool // whether announcements shorten idle
	age      time.Duration
	now      func() time.Time
	current  atomic.Pointer[generation]
}

// generation is the connections that were opened by one copy of the transport.
type generation struct {
	transport *http.Transport
	born      time.Time
	idle      time.Duration
	timeouts  atomic.Int32 // in a row
}

// NewConnections returns connections as base, which is no longer to be used, would open them. A positive idle is how long
// the operator wants idle ones to be kept, whatever the consumer announces.
func NewConnections(base *http.Transport, idle time.Duration) *Connections {
	c := &Connections{base: base, idle: idle, age: connectionAge, now: time.Now}
	if idle <= 0 {
		c.idle, c.announce = connectionIdle, true
	}
	c.current.Store(c.generation(c.idle))
	return c
}

// CloseIdleConnections closes the connections that serve no request, and lets the others close after theirs.
func (c *Connections) CloseIdleConnections() { c.current.Load().transport.CloseIdleConnections() }

// RoundTrip sends a request and returns the response. Its errors are sentences without URL, secrets and addresses of
// this host, and name the proxy, if the request went through one.
func (c *Connections) RoundTrip(r *http.Request) (*http.Response, error) {
	gen := c.current.Load()
	if c.now().Sub(gen.born) >= c.age {
		gen = c.renew(gen, c.idle)
	}
	t := new(try)
	res, err := t.roundTrip(gen, r)
	if err != nil && t.stale(r, err) {
		if again, ok := repeatable(r); ok {
			gen, t = c.renew(gen, gen.idle), new(try)
			res, err = t.roundTrip(gen, again)
		}
	}
	if err != nil {
		if errors.Is(context.Cause(r.Context()), context.DeadlineExceeded) && gen.timeouts.Add(1) >= suspiciousTimeouts {
			c.renew(gen, gen.idle)
		}
		return nil, &failure{c.proxy(r), t.phase(err), err}
	}
	if gen.timeouts.Load() != 0 {
		gen.timeouts.Store(0)
	}
	if idle, ok := announced(res); ok && c.announce && idle < gen.idle {
		c.renew(gen, idle)
	}
	if res.StatusCode == http.StatusProxyAuthRequired && r.URL.Scheme == "http" {
		// Without TLS it is the proxy itself that answers.
		if proxy := c.proxy(r); proxy != "" {
			_ = res.Body.Close()
			return nil, &failure{proxy: proxy, err: refusal(res.StatusCode)}
		}
	}
	return res, nil
}

// renew replaces a generation, unless that has been done, and returns the one to use now. A request that came to the old
// one too late leaves its connection there, to be closed when it has been idle for long enough.
func (c *Connections) renew(old *generation, idle time.Duration) *generation {
	if c.current.CompareAndSwap(old, c.generation(idle)) {
		old.transport.CloseIdleConnections()
	}
	return c.current.Load()
}

func (c *Connections) generation(idle time.Duration) *generation {
	t := c.base.Clone()
	if t.TLSNextProto["h2"] != nil {
		// It leads to the connections of base. This copy is to have its own.
		t.TLSNextProto = nil
		t.ForceAttemptHTTP2 = true
		if t.Protocols != nil {
			t.Protocols.SetHTTP2(true)
		}
	}
	if t.HTTP2 == nil {
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin}
	}
	t.IdleConnTimeout = idle
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return open(ctx, dial, network, address)
	}
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return refusal(res.StatusCode)
		}
		return nil
	}
	return &generation{transport: t, born: c.now(), idle: idle}
}

// proxy returns host and port of the proxy that a request goes through, or "".
func (c *Connections) proxy(r *http.Request) string {
	if c.base.Proxy == nil {
		return ""
	}
	u, err := c.base.Proxy(r)
	if err != nil || u == nil {
		return ""
	}
	return u.Host
}

// announced returns for how long a connection may be idle by `Keep-Alive: timeout=<seconds>`, less a second for the way.
func announced(res *http.Response) (time.Duration, bool) {
	if res.ProtoMajor != 1 {
		return 0, false
	}
	for _, header := range res.Header["Keep-Alive"] {
		for parameter := range strings.SplitSeq(header, ",") {
			name, value, _ := strings.Cut(parameter, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "timeout") {
				continue
			}
			if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
				timeout := time.Duration(seconds) * time.Second
				return max(timeout-time.Second, timeout/2, time.Millisecond), true
			}
		}
	}
	return 0, false
}

// repeatable returns the request with its body rewound.
func repeatable(r *http.Request) (*http.Request, bool) {
	again := *r
	if r.Body == nil || r.Body == http.NoBody {
		return &again, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	body, err := r.GetBody()
	again.Body = body
	return &again, err == nil
}

// try records how far a request has come.
type try struct {
	trace                              httptrace.ClientTrace
	connected, reused, wrote, answered atomic.Bool
}

func (t *try) roundTrip(gen *generation, r *http.Request) (*http.Response, error) {
	t.trace.GotConn = func(info httptrace.GotConnInfo) {
		t.connected.Store(true)
		t.reused.Store(info.Reused)
		t.wrote.Store(false)
	}
	t.trace.WroteRequest = func(info httptrace.WroteRequestInfo) { t.wrote.Store(info.Err == nil) }
	t.trace.GotFirstResponseByte = func() { t.answered.Store(true) }
	return gen.transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &t.trace)))
}

// stale reports whether the request failed because of a kept connection that was no longer one.
func (t *try) stale(r *http.Request, err error) bool {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return false
	}
	return t.reused.Load() && !t.answered.Load() && r.Context().Err() == nil && !cause.IsStreamReset(err)
}

func (t *try) phase(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !t.connected.Load():
		return connecting
	case cause.IsStreamReset(err):
		return waiting // it is the consumer's answer
	case !t.wrote.Load(), ok && op.Op == "write":
		return sending
	}
	return waiting
}

// open dials a connection that lets net/http read an early answer.
func open(ctx context.Context, dial dialer, network, address string) (net.Conn, error) {
	c, err := dialed(ctx, dial, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// dialed dials. Its error is that of the dialer beneath, since Caddy wraps it in a type that cannot be unwrapped.
func dialed(ctx context.Context, dial dialer, network, address string) (net.Conn, error) {
	var first atomic.Pointer[error]
	note := func(err error) {
		if err != nil {
			first.CompareAndSwap(nil, &err)
		}
	}
	c, err := dial(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone:     func(info httptrace.DNSDoneInfo) { note(info.Err) },
		ConnectDone: func(_, _ string, err error) { note(err) },
	}), network, address)
	if cause := first.Load(); err != nil && cause != nil {
		err = *cause
	}
	return c, err
}

// conn hides from net/http that a write failed because the other side has hung up, until everything that it had sent
// before has been read: net/http would throw the response away.
type conn struct {
	net.Conn
	hungUp atomic.Pointer[error]
}

func (c *conn) Write(p []byte) (int, error) {
	if c.hungUp.Load() != nil {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.hungUp.Store(&err)
		return len(p), nil
	}
	return n, err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if hungUp := c.hungUp.Load(); hungUp != nil && n == 0 && err != nil {
		err = *hungUp
	}
	return n, err
}
