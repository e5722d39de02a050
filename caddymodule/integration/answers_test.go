package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusals walks through what a sender gets that is not accepted.
func TestRefusals(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	to := "to consumer " + c.URL()
	g.start(`relay /vocals vocals {
		max_body 1KiB
		dedupe task_id path:data.batch
		` + to + `
	}
	relay /far far {
		allow 203.0.113.0/24
		` + to + `
	}
	relay /secret secret {
		verify token s3cret {
			query token
		}
		` + to + `
	}`)
	task := func(id string) string { return `{"code":200,"data":{"task_id":"` + id + `","batch":1}}` }
	for _, c := range []struct {
		name   string
		method string
		path   string
		header []string
		body   string
		status int
	}{
		{"another method", http.MethodGet, "/vocals", nil, "", 405},
		{"another method from a strange address", http.MethodPut, "/far", nil, task("a"), 405},
		{"a strange address", http.MethodPost, "/far", nil, task("a"), 403},
		{"a strange address with a strange type", http.MethodPost, "/far", []string{"Content-Type", "text/plain"}, task("a"), 403},
		{"no JSON type", http.MethodPost, "/vocals", []string{"Content-Type", "text/plain"}, task("a"), 415},
		{"an encoded body", http.MethodPost, "/vocals", []string{"Content-Encoding", "gzip"}, task("a"), 415},
		{"too large a body", http.MethodPost, "/vocals", nil, `{"data":{"task_id":"a","batch":1,"x":"` + strings.Repeat("x", 1024) + `"}}`, 413},
		{"no token", http.MethodPost, "/secret", nil, task("a"), 401},
		{"a wrong token", http.MethodPost, "/secret?token=guess", nil, task("a"), 401},
		{"no JSON", http.MethodPost, "/vocals", nil, `task_id=a`, 400},
		{"no body", http.MethodPost, "/vocals", nil, ``, 400},
		{"no object", http.MethodPost, "/vocals", nil, `[{"data":{"task_id":"a"}}]`, 400},
		{"more than one value", http.MethodPost, "/vocals", nil, task("a") + task("b"), 400},
		{"too deep", http.MethodPost, "/vocals", nil, `{"data":{"task_id":"a","batch":1},"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 400},
		{"invalid UTF-8", http.MethodPost, "/vocals", nil, "{\"msg\":\"\xff\",\"data\":{\"task_id\":\"a\",\"batch\":1}}", 400},
		{"a task id twice", http.MethodPost, "/vocals", nil, `{"data":{"task_id":"a","task_id":"b","batch":1}}`, 400},
		{"no task id", http.MethodPost, "/vocals", nil, `{"code":200,"data":{"batch":1}}`, 400},
		{"a task id of strange characters", http.MethodPost, "/vocals", nil, task("a b"), 400},
		{"too long a task id", http.MethodPost, "/vocals", nil, task(strings.Repeat("a", 129)), 400},
		{"a part of the dedupe key missing", http.MethodPost, "/vocals", nil, `{"data":{"task_id":"a"}}`, 400},
	} {
		req, err := http.NewRequest(c.method, "https://localhost"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(c.header); i += 2 {
			req.Header.Set(c.header[i], c.header[i+1])
		}
		a, err := send(g.client, req)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		checkRefusal(t, c.name, a, c.status)
	}
	a := g.post("/secret?token=s3cret", task("a"))
	if a.status != http.StatusOK {
		t.Errorf("with the right token: %+v", a)
	}
	c.waitFor(1)
	if n := len(g.events(nil)); n != 1 {
		t.Errorf("%d events in the store, for one accepted callback", n)
	}
	if lines := g.process.Logged("s3cret"); len(lines) > 0 {
		t.Errorf("the secret is in the log: %s", lines[0])
	}
}

func checkRefusal(t *testing.T, name string, a answer, status int) {
	t.Helper()
	var body struct{ Error, Message string }
	err := json.Unmarshal([]byte(a.body), &body)
	if a.status != status || err != nil || body.Error == "" || body.Message == "" || a.eventID() != "" {
		t.Errorf("%s: %d %s, not %d", name, a.status, a.body, status)
	}
	if status == http.StatusMethodNotAllowed && a.header.Get("Allow") != http.MethodPost {
		t.Errorf("%s: Allow is %q", name, a.header.Get("Allow"))
	}
	if status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
		t.Errorf("%s: no Retry-After", name)
	}
}

// TestSlowBody: a sender that does not finish is told so before it would give up.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.start(`relay /vocals vocals {
		ack_within 1s
		to consumer ` + newConsumer(t).URL() + `
	}`)
	conn, err := tls.Dial("tcp", g.address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	fmt.Fprint(conn, "POST /vocals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if took := time.Since(start); resp.StatusCode != http.StatusRequestTimeout || took > time.Second {
		t.Errorf("%s after %s", resp.Status, took)
	}
}

// TestNoStore: a gateway whose store cannot be opened starts, says 503, and recovers when the cause is mended.
func TestNoStore(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	if err := os.MkdirAll(filepath.Dir(g.database()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.database(), []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start(`relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`)
	checkRefusal(t, "no store", g.post("/vocals", callback(t, "a")), http.StatusServiceUnavailable)
	if s := g.status(); s.Store.Up || s.Store.Error == "" {
		t.Errorf("the status of a store that cannot be opened is %+v", s.Store)
	}
	if err := os.Remove(g.database()); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the store opens", func() bool { return g.status().Store.Up })
	g.accept("/vocals", callback(t, "a"))
	c.waitFor(1)
}
