package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startFrameworks installs and starts the consumers of the folder frameworks, and returns their URLs.
func startFrameworks(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "frameworks.mjs"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, filepath.Join("frameworks", name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	output(t, npm)

	node := exec.Command("node", "frameworks.mjs")
	node.Dir, node.Env = dir, os.Environ()
	node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	urls := map[string]string{}
	for _, name := range []string{"express", "koa"} {
		address := freeAddress(t)
		_, port, _ := net.SplitHostPort(address)
		node.Env = append(node.Env, strings.ToUpper(name)+"="+port)
		urls[name] = "http://" + address + "/hooks"
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	for _, url := range urls {
		eventually(t, patience, "the consumer answers", func() bool {
			req, err := http.NewRequest(http.MethodPost, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = send(adminClient, req)
			return err == nil
		})
	}
	return urls
}

// TestFrameworks delivers JSON by its various names to Express and to Koa, as it came and with the header of the
// example content-type.caddyfile, which makes them read it.
func TestFrameworks(t *testing.T) {
	t.Parallel()
	urls := startFrameworks(t)
	g := newGateway(t)
	site := `relay /plain plain {
		to express ` + urls["express"] + `
		to koa ` + urls["koa"] + `
	}
	respond 404`
	const header = "header Content-Type application/json"
	if !strings.Contains(read(t, examples+"content-type.caddyfile"), header) {
		t.Fatalf("content-type.caddyfile does not have %q", header)
	}
	remedied := strings.NewReplacer("plain", "remedied", urls["express"], urls["express"]+" {\n"+header+"\n}", urls["koa"], urls["koa"]+" {\n"+header+"\n}")
	g.start(strings.Replace(site, "respond 404", remedied.Replace(site), 1))

	const unread, readable = `{"read":null}`, `{"read":"%s"}`
	type outcome struct {
		status   int
		response string
	}
	for i, c := range []struct {
		contentType  string
		express, koa outcome
	}{
		{"application/json", outcome{200, readable}, outcome{200, readable}},
		{"application/json; charset=utf-8", outcome{200, readable}, outcome{200, readable}},
		{"application/json; charset=ISO-8859-1", outcome{415, ""}, outcome{200, readable}},
		{"application/json; charset=utf8", outcome{415, ""}, outcome{200, readable}},
		{"application/cloudevents+json", outcome{200, unread}, outcome{200, unread}},
	} {
		task := fmt.Sprint("task-", i)
		for path, want := range map[string]map[string]outcome{
			"/plain":    {"express": c.express, "koa": c.koa},
			"/remedied": {"express": {200, readable}, "koa": {200, readable}},
		} {
			id := g.send(http.MethodPost, path, callback(t, task), "Content-Type", c.contentType).eventID()
			eventually(t, patience, "both consumers are tried", func() bool {
				tried := 0
				for _, d := range g.event(id).Deliveries {
					tried += min(1, len(d.Attempts))
				}
				return tried == 2
			})
			for _, d := range g.event(id).Deliveries {
				got, want := d.Attempts[0], want[d.Destination]
				response := strings.ReplaceAll(want.response, "%s", task)
				if got.Status != want.status || response != "" && got.Response != response {
					t.Errorf("%s at %s: %s answers %d %q, not %d %q", c.contentType, path, d.Destination, got.Status, got.Response, want.status, response)
				}
			}
		}
	}
}
