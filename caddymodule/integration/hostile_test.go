package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// startWith runs the gateway with a site's directives and with options of its server.
func (g *gateway) startWith(servers, site string) {
	g.t.Helper()
	g.startFile(strings.Replace(g.caddyfile(site), "\tmetrics\n", "\tmetrics\n\tservers {\n"+servers+"\n}\n", 1))
}

// dial opens a connection to the gateway for whoever speaks HTTP by hand.
func (g *gateway) dial(protocol string) *tls.Conn {
	g.t.Helper()
	conn, err := tls.Dial("tcp", g.address, &tls.Config{
		ServerName: "localhost", InsecureSkipVerify: true, NextProtos: []string{protocol},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// answersTo returns the statuses of the answers to what is sent over one connection of HTTP/1.1, up to its end. Whoever
// half-closes is answered too.
func (g *gateway) answersTo(text string) (statuses []int) {
	g.t.Helper()
	conn := g.dial("http/1.1")
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	_ = conn.CloseWrite()
	for r := bufio.NewReader(conn); ; {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		statuses = append(statuses, res.StatusCode)
	}
}

// checkTasks checks which tasks' callbacks have become events.
func (g *gateway) checkTasks(want ...string) {
	g.t.Helper()
	var got []string
	for _, ev := range g.events(nil) {
		got = append(got, ev.TaskID)
	}
	if len(got) != len(want) {
		g.t.Errorf("events of the tasks %q, expected %q", got, want)
	}
	for _, task := range want {
		if !strings.Contains(fmt.Sprintf("%q", got), fmt.Sprintf("%q", task)) {
			g.t.Errorf("no event of the task %s among %q", task, got)
		}
	}
}

func post(headers, body string) string {
	return "POST /vocals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + "\r\n" + body
}

func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

// TestSmuggling sends requests about whose end two servers may disagree. None hides a second one.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start("relay /vocals vocals {\n to consumer " + newConsumer(t).URL() + "\n}")
	hidden := post("Content-Length: 32\r\n", `{"data":{"task_id":"smuggled"}} `)
	length := func(of string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(of)) }
	honest := `{"data":{"task_id":"honest"}}`
	for name, c := range map[string]struct {
		request string
		status  int // of the only answer
	}{
		"two lengths":                     {post("Content-Length: 0\r\n"+length(hidden), hidden), 400},
		"a list of lengths":               {post("Content-Length: 0, 5\r\n", hidden), 400},
		"a signed length":                 {post("Content-Length: +0\r\n", hidden), 400},
		"a negative length":               {post("Content-Length: -1\r\n", hidden), 400},
		"a length in hex":                 {post("Content-Length: 0x10\r\n", hidden), 400},
		"a length beyond 64 bits":         {post("Content-Length: 18446744073709551616\r\n", hidden), 400},
		"a coding beside chunks":          {post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"+hidden), 501},
		"chunks that are not the last":    {post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+hidden), 501},
		"chunks twice":                    {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+hidden), 501},
		"chunks with a control character": {post("Transfer-Encoding: \x0bchunked\r\n"+length(hidden), hidden), 400},
		"a space before the colon":        {post("Transfer-Encoding : chunked\r\n"+length(hidden), hidden), 400},
		"a folded line at the start":      {strings.Replace(post(length(hidden), hidden), "Host", " Host", 1), 400},
		"a chunk of no length":            {post("Transfer-Encoding: chunked\r\n", "zz\r\n"+hidden), 400},
		"a negative chunk":                {post("Transfer-Encoding: chunked\r\n", "-1\r\n"+hidden), 400},
		"a chunk longer than any":         {post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+hidden), 400},
		"a chunk without its end":         {post("Transfer-Encoding: chunked\r\n", "1\r\n{}\r\n0\r\n\r\n"+hidden), 400},
		"two hosts":                       {post("Host: 127.0.0.1\r\n"+length(hidden), hidden), 400},
		"a line break in a name":          {post("A\rB: c\r\n"+length(hidden), hidden), 400},
		"a NUL in a value":                {post("A: b\x00c\r\n"+length(hidden), hidden), 400},
		"a body of HTTP/1.0 in chunks":    {strings.Replace(post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"+hidden), "HTTP/1.1", "HTTP/1.0", 1), 400},
	} {
		if got := g.answersTo(c.request); len(got) != 1 || got[0] != c.status {
			t.Errorf("%s: answered %v, expected %d alone", name, got, c.status)
		}
	}
	g.checkTasks()
	// RFC 9112 has a body with a length and chunks read by its chunks. The length, which is wrong, is forgotten.
	if got := g.answersTo(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked(honest))); len(got) != 1 || got[0] != 200 {
		t.Errorf("chunks beside a length: answered %v", got)
	}
	g.checkTasks("honest")
}

// TestWrongLengths: a body that is not as long as it was announced is no callback.
func TestWrongLengths(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start("relay /vocals vocals {\n to consumer " + newConsumer(t).URL() + "\n}")
	body := `{"data":{"task_id":"a"}}`
	for name, c := range map[string]struct {
		request string
		status  []int
	}{
		"longer than announced":  {post("Content-Length: 10\r\n", body), []int{400, 400}}, // the rest is no request either
		"shorter than announced": {post("Content-Length: 100\r\n", body), []int{400}},
		"nothing announced":      {post("", body), []int{400, 400}},
		"far too much announced": {post("Content-Length: 9223372036854775807\r\n", body), []int{413}},
		"cut chunks":             {post("Transfer-Encoding: chunked\r\n", "18\r\n"+body), []int{400}},
		"chunks without an end":  {post("Transfer-Encoding: chunked\r\n", "18\r\n"+body+"\r\n"), []int{400}},
	} {
		if got := g.answersTo(c.request); fmt.Sprint(got) != fmt.Sprint(c.status) {
			t.Errorf("%s: answered %v, expected %v", name, got, c.status)
		}
	}
	conn := g.dialHTTP2()
	for id, length := range []string{"10", "100", "-1", "x"} {
		stream := uint32(2*id + 1)
		conn.request(stream, "content-length", length)
		conn.must(conn.WriteData(stream, true, []byte(body)))
	}
	conn.request(9, "content-length", fmt.Sprint(len(body)))
	conn.must(conn.WriteData(9, true, []byte(strings.Replace(body, `"a"`, `"b"`, 1))))
	for stream, status := range conn.answers(5) {
		if accepted := status == "200"; accepted != (stream == 9) {
			t.Errorf("HTTP/2, stream %d: answered %q", stream, status)
		}
	}
	g.checkTasks("b")
}

// TestHeaderFlood: more headers than Caddy's max_header_size are refused, 16 KiB unless that is set. Of those that it lets
// through, few are stored and none is sent on.
func TestHeaderFlood(t *testing.T) {
	t.Parallel()
	usual, g := newGateway(t), newGateway(t)
	c := newConsumer(t)
	site := "relay /vocals vocals {\n to consumer " + c.URL() + "\n}"
	usual.start(site)
	g.startWith("max_header_size 1MB", site)
	body := `{"data":{"task_id":"a"}}`
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for _, flood := range []struct {
		g                      *gateway
		headers, bytes, status int
	}{
		{usual, 60, 1 << 10, 431}, {g, 60, 1 << 10, 200}, {g, 60, 32 << 10, 431}, {g, 10_000, 150, 431}, {g, 1, 2 << 20, 431},
	} {
		var headers strings.Builder
		for n := range flood.headers {
			fmt.Fprintf(&headers, "X-Flood-%d: %s\r\n", n, strings.Repeat("x", flood.bytes))
		}
		if got := flood.g.answersTo(post(headers.String()+length, body)); len(got) != 1 || got[0] != flood.status {
			t.Errorf("%d headers of %d bytes: answered %v, not %d", flood.headers, flood.bytes, got, flood.status)
		}
	}
	for _, r := range c.waitFor(1) {
		for name := range r.header {
			if strings.HasPrefix(name, "X-Flood") {
				t.Fatalf("the consumer got %s", name)
			}
		}
	}
	stored := 0
	for name, value := range g.event(g.events(nil)[0].ID).Headers {
		stored += len(name) + len(value)
	}
	if stored == 0 || stored > 33<<10 {
		t.Errorf("%d bytes of headers are stored", stored)
	}
}

// TestRapidReset: a sender that opens streams and takes them back costs others nothing, and leaves nothing behind.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start("relay /vocals vocals {\n to consumer " + newConsumer(t).URL() + "\n}")
	g.accept("/vocals", callback(t, "before"))
	before := g.metric("go_goroutines")
	for range 4 {
		conn := g.dialHTTP2()
		for n := range 2_000 {
			stream := uint32(2*n + 1)
			// The server ends a connection that goes too far, which is the best that it can do.
			if conn.open(stream, "content-length", "400") != nil || conn.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
				break
			}
		}
		g.accept("/vocals", callback(t, fmt.Sprintf("during-%p", conn)))
		_ = conn.conn.Close()
	}
	eventually(t, patience, "the streams are forgotten", func() bool { return g.metric("go_goroutines") < before+50 })
	if n := len(g.events(nil)); n != 5 {
		t.Errorf("%d events of 5 callbacks", n)
	}
}

// http2Conn speaks HTTP/2 by hand.
type http2Conn struct {
	*http2.Framer
	t       *testing.T
	conn    net.Conn
	header  bytes.Buffer
	encoder *hpack.Encoder
}

func (g *gateway) dialHTTP2() *http2Conn {
	g.t.Helper()
	c := &http2Conn{t: g.t, conn: g.dial("h2")}
	c.Framer = http2.NewFramer(c.conn, c.conn)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.header)
	_, err := io.WriteString(c.conn, http2.ClientPreface)
	c.must(err)
	c.must(c.WriteSettings())
	return c
}

func (c *http2Conn) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// block returns the headers of a callback, and more of them.
func (c *http2Conn) block(more ...string) []byte {
	c.header.Reset()
	fields := append([]string{
		":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", "/vocals", "content-type", "application/json",
	}, more...)
	for i := 0; i < len(fields); i += 2 {
		c.must(c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return c.header.Bytes()
}

func (c *http2Conn) open(stream uint32, more ...string) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block(more...), EndHeaders: true})
}

func (c *http2Conn) request(stream uint32, more ...string) {
	c.t.Helper()
	c.must(c.open(stream, more...))
}

// answers returns the status of each of n streams: what it was answered, or how it was reset.
func (c *http2Conn) answers(n int) map[uint32]string {
	c.t.Helper()
	all := map[uint32]string{}
	for len(all) < n {
		frame, err := c.ReadFrame()
		c.must(err)
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			all[frame.StreamID] = frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			if _, answered := all[frame.StreamID]; !answered {
				all[frame.StreamID] = frame.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			c.t.Fatalf("the connection is ended: %v", frame)
		}
	}
	return all
}
