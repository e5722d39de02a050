package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestForwardedAddresses: only what trusted proxies have appended to X-Forwarded-For moves the address that `allow` compares.
func TestForwardedAddresses(t *testing.T) {
	t.Parallel()
	const allowed, other = "203.0.113.9", "198.51.100.1"
	source := "relay /vocals vocals {\n allow 203.0.113.0/24\n to consumer " + newConsumer(t).URL() + "\n}"
	strict, direct := newGateway(t), newGateway(t)
	strict.startWith("trusted_proxies static 127.0.0.0/8 10.0.0.0/8\n trusted_proxies_strict", source)
	direct.start(source)
	for name, c := range map[string]struct {
		header []string
		strict bool // whether the callback is let in behind a trusted proxy; no header lets it in without one
	}{
		"nothing":                      {nil, false},
		"the sender":                   {[]string{"X-Forwarded-For", allowed}, true},
		"two proxies":                  {[]string{"X-Forwarded-For", allowed + ", 10.0.0.7"}, true},
		"claimed by another":           {[]string{"X-Forwarded-For", allowed + ", " + other}, false},
		"claimed in a header before":   {[]string{"X-Forwarded-For", allowed, "X-Forwarded-For", other}, false},
		"claimed beside a proxy":       {[]string{"X-Forwarded-For", allowed + ", " + other + ", 10.0.0.7"}, false},
		"claimed before the loopback":  {[]string{"X-Forwarded-For", allowed + ", " + other + ", 127.0.0.1"}, false},
		"another, and no address":      {[]string{"X-Forwarded-For", other + ", unknown"}, false},
		"with a port":                  {[]string{"X-Forwarded-For", allowed + ":4711"}, true},
		"mapped into IPv6":             {[]string{"X-Forwarded-For", "::ffff:" + allowed}, true},
		"in octal":                     {[]string{"X-Forwarded-For", "0313.0.113.9"}, false},
		"in another header":            {[]string{"X-Real-IP", allowed, "Forwarded", "for=" + allowed, "True-Client-IP", allowed}, false},
		"in a header of another spell": {[]string{"X_Forwarded_For", allowed}, false},
	} {
		for g, want := range map[*gateway]bool{strict: c.strict, direct: false} {
			req, err := http.NewRequest(http.MethodPost, "https://localhost/vocals", strings.NewReader(callback(t, "a")))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(c.header); i += 2 {
				req.Header.Add(c.header[i], c.header[i+1])
			}
			a, err := send(g.client, req)
			if err != nil {
				t.Fatal(err)
			}
			if status := map[bool]int{true: 200, false: 403}[want]; a.status != status {
				t.Errorf("%s, strict %v: %d, not %d", name, g == strict, a.status, status)
			}
		}
	}
	direct.checkTasks()
}

// TestProxyProtocol: the address in a PROXY header counts if the peer may send one, and changes nothing otherwise.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	source := "relay /vocals vocals {\n allow 203.0.113.0/24\n to consumer " + newConsumer(t).URL() + "\n}"
	trusted, untrusted := newGateway(t), newGateway(t)
	for g, peers := range map[*gateway]string{trusted: "127.0.0.0/8", untrusted: "10.0.0.0/8"} {
		g.startWith("listener_wrappers {\n proxy_protocol {\n allow "+peers+"\n}\n tls\n}", source)
	}
	body := callback(t, "a")
	request := post(fmt.Sprintf("X-Forwarded-For: 203.0.113.9\r\nContent-Length: %d\r\n", len(body)), body)
	const inside, outside, unknown = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n", "PROXY TCP4 198.51.100.1 127.0.0.1 4711 443\r\n", "PROXY UNKNOWN\r\n"
	for header, status := range map[string]int{inside: 200, outside: 403, unknown: 403, "": 403} {
		if got := proxied(t, trusted, header, request); got != status {
			t.Errorf("a trusted peer, %q: %d, not %d", header, got, status)
		}
		if got := proxied(t, untrusted, header, request); got != http.StatusForbidden {
			t.Errorf("another peer, %q: %d", header, got)
		}
	}
}

// proxied sends a request after a header of the PROXY protocol, and returns the status of the answer.
func proxied(t *testing.T, g *gateway, header, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, header); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(conn, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	if _, err := io.WriteString(secured, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(secured), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// TestPathAndQueryTricks: no spelling of a path or a query gets a callback past `allow` or `token`.
func TestPathAndQueryTricks(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	to := "to consumer " + newConsumer(t).URL()
	g.start(`relay /open open {
		verify token t0p3n {
			query token
		}
		` + to + `
	}
	relay /far/* far {
		allow 203.0.113.0/24
		` + to + `
	}
	relay /secret/* secret {
		verify token s3cret {
			query token
		}
		` + to + `
	}`)
	for _, target := range []string{
		"/secret/a", "/secret/a?", "/secret/a?token", "/secret/a?token=", "/secret/a?token=s3cre", "/secret/a?token=s3crets",
		"/secret/a?Token=s3cret", "/secret/a?token[]=s3cret", "/secret/a?token%00=s3cret", "/secret/a?token=s3cret%00",
		"/secret/a?token=s3cret%20", "/secret/a?token=S3CRET", "/secret/a?token=s3cret&token=s3cret", "/secret/a?token=x&token=s3cret",
		"/secret/a?token=s3cret&t%6fken=x", "/secret/a?token=s3cret;", "/secret/a?a=1;token=s3cret", "/secret/a?token=%zz&a=s3cret",
		"/secret/a%3Ftoken=s3cret", "/secret/a;token=s3cret", "/secret/token=s3cret",
		"/secret/a?token=t0p3n", "/open?token=s3cret", "/open/../secret/a?token=t0p3n",
		"//secret//a?token=t0p3n", "/SECRET/a?token=t0p3n", "/secret%2fa?token=t0p3n", "/./secret/a", "/secret/%2e%2e/open", "/open%2f..%2fsecret/a",
		"/far/a", "/FAR/a", "//far/a", "/far//a", "/far/%2e%2e/open?x", "/./far/a", "/x/../far/a", "/far%2fa", "/%66ar/a", "/far/a?token=t0p3n",
		"https://203.0.113.9/far/a", "https://203.0.113.9/secret/a",
	} {
		body := callback(t, "a")
		for _, host := range []string{"localhost", "203.0.113.9", "LOCALHOST:443"} {
			got := g.answersTo(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
				target, host, len(body), body))
			// Where no route is, Caddy answers 200 with nothing; the events below show what was accepted.
			if len(got) > 1 {
				t.Errorf("%s: answered %v", target, got)
			}
		}
	}
	g.checkTasks()
	// Whatever the spelling, the token that counts is that of the source which the path leads to.
	for target, source := range map[string]string{
		"/secret/a?token=s3cret": "secret", "/secret/b?x=%zz&t%6fken=s3cret": "secret", "/secret/..%2fopen?token=t0p3n": "open",
	} {
		a := g.post(target, callback(t, fmt.Sprint("task-", len(target))))
		if a.status != http.StatusOK || a.eventID() == "" || g.event(a.eventID()).Source != source {
			t.Errorf("%s: %+v", target, a)
		}
	}
}

// TestAdminFromAfar: the admin endpoint answers no page of another site, nor one whose DNS name was pointed at it.
func TestAdminFromAfar(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start("relay /vocals vocals {\n to consumer " + newConsumer(t).URL() + "\n}")
	g.accept("/vocals", callback(t, "a"))
	_, port, _ := net.SplitHostPort(g.admin)
	for name, c := range map[string]struct {
		host   string
		header []string
		status int
	}{
		"the command line":          {g.admin, nil, 200},
		"a rebound name":            {"evil.example:" + port, nil, 403},
		"a rebound name, its page":  {"evil.example:" + port, []string{"Origin", "http://evil.example:" + port, "Sec-Fetch-Site", "same-origin"}, 403},
		"a form of another site":    {g.admin, []string{"Origin", "https://evil.example", "Sec-Fetch-Mode", "navigate"}, 403},
		"a fetch of another site":   {g.admin, []string{"Origin", "https://evil.example", "Sec-Fetch-Mode", "cors"}, 403},
		"a fetch without an answer": {g.admin, []string{"Sec-Fetch-Mode", "no-cors"}, 400},
		"a link of another site":    {g.admin, []string{"Sec-Fetch-Mode", "navigate", "Referer", "https://evil.example/"}, 403},
		"a sandboxed page":          {g.admin, []string{"Origin", "null"}, 400},
	} {
		for path, method := range map[string]string{
			"/relay/events": http.MethodGet, "/relay/dead-letters/discard": http.MethodPost, "/relay/destinations/vocals/consumer/pause": http.MethodPost,
		} {
			body := ""
			if strings.HasSuffix(path, "discard") {
				body = `{"source":"vocals","destination":"consumer"}`
			}
			req, err := http.NewRequest(method, "http://"+g.admin+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			req.Header.Set("Content-Type", "text/plain") // what a page may send without asking
			for i := 0; i < len(c.header); i += 2 {
				req.Header.Set(c.header[i], c.header[i+1])
			}
			a, err := send(adminClient, req)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != c.status {
				t.Errorf("%s: %s %s: %d %s, not %d", name, method, path, a.status, a.body, c.status)
			}
		}
	}
}
