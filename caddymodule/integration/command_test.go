package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// relay runs `caddy relay`, and returns what it prints on both streams.
func (g *gateway) relay(args ...string) (string, error) {
	g.t.Helper()
	out, err := caddy(g.home, append([]string{"relay", "--address", g.admin}, args...)...).CombinedOutput()
	return string(out), err
}

// mustRelay runs `caddy relay`, which must succeed and print the texts.
func (g *gateway) mustRelay(line string, texts ...string) string {
	g.t.Helper()
	out, err := g.relay(strings.Fields(line)...)
	if err != nil {
		g.t.Fatalf("caddy relay %s: %v: %s", line, err, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			g.t.Errorf("caddy relay %s prints no %q:\n%s", line, text, out)
		}
	}
	return out
}

// refusedRelay runs `caddy relay`, which must fail with status 1 and one line that has the text.
func (g *gateway) refusedRelay(line, text string) {
	g.t.Helper()
	out, err := g.relay(strings.Fields(line)...)
	if err == nil || !strings.Contains(out, text) || strings.Count(out, "\n") != 1 {
		g.t.Errorf("caddy relay %s: %v: %s", line, err, out)
	}
}

// commandSite is a source with two destinations that give up at once.
func commandSite(billing, library string) string {
	return `relay /vocals vocals {
		to ` + billing + ` {
			retry off
			breaker off
		}
		to ` + library + ` {
			retry off
			breaker off
		}
	}`
}

// TestCommandMends goes from one failing consumer to all delivered, with nothing but the command.
func TestCommandMends(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.refusedRelay("status", "cannot reach Caddy's admin endpoint at "+g.admin)
	billing, library := newConsumer(t), newConsumer(t)
	billing.answers(http.StatusInternalServerError)
	g.start(commandSite("billing "+billing.URL(), "library "+library.URL()))
	var ids []string
	for n := range 3 {
		ids = append(ids, g.accept("/vocals", callback(t, fmt.Sprint("task-", n))))
	}
	eventually(t, patience, "everything is settled", g.settled)

	// Who fails, and why?
	g.mustRelay("status", "sqlite "+g.database()+", up", "vocals (open to everyone)")
	g.mustRelay("events --source vocals --state dead", append(ids, "billing dead, library")...)
	g.mustRelay("dead-letters --destination billing", append(ids, "500")...)
	g.mustRelay("show "+ids[0], "billing: dead", "500", "library: delivered", `"task_id": "task-0"`)
	g.mustRelay("dead-letters --destination library", "There are no such dead letters.")

	// Mend it, and watch it drain.
	billing.answers(http.StatusOK)
	g.refusedRelay("redrive", "nothing is selected")
	g.mustRelay("redrive --source vocals --destination billing --since 1h", "3 dead letters redriven.")
	eventually(t, patience, "everything is settled", g.settled)
	var events struct {
		Events []event `json:"events"`
	}
	if err := json.Unmarshal([]byte(g.mustRelay("events --json --state delivered")), &events); err != nil || len(events.Events) != 3 {
		t.Errorf("%d events are delivered, %v", len(events.Events), err)
	}
	g.mustRelay("dead-letters", "There are no such dead letters.")
}

// TestCommandSteers goes through the other commands that change something.
func TestCommandSteers(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	billing, library := newConsumer(t), newConsumer(t)
	g.start(commandSite("billing "+billing.URL(), "library "+library.URL()))
	body := "{ \"code\": 200,\n\t\"data\": {\"task_id\": \"spaced\"} }\n"
	first := g.accept("/vocals", body)
	eventually(t, patience, "everything is settled", g.settled)

	g.mustRelay("replay "+first+" --destination library", "1 delivery replayed.")
	library.waitFor(2)
	eventually(t, patience, "everything is settled", g.settled)
	g.mustRelay("replay --source vocals --since 1h --dry-run", "2 deliveries would be replayed.")
	g.mustRelay("replay --source vocals --since 1h --destination billing", "1 delivery replayed.")
	billing.waitFor(2)
	eventually(t, patience, "everything is settled", g.settled)
	if library.count() != 2 {
		t.Errorf("the library got %d requests", library.count())
	}
	g.refusedRelay("replay 01HZZZZZZZZZZZZZZZZZZZZZZZ", "Error: ")

	// A whole event on each line.
	var exported event
	if err := json.Unmarshal([]byte(g.mustRelay("export --task-id spaced")), &exported); err != nil || exported.ID != first || len(exported.Payload) == 0 {
		t.Errorf("exported %+v, %v", exported, err)
	}
	// And its body byte for byte, which no browser shows.
	a := g.call(http.MethodGet, "/relay/events/"+first+"/body", nil)
	if a.body != body || a.header.Get("Relay-Content-Type") != "application/json" || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("the body is answered as %+v", a)
	}

	// A destination is paused, renamed while an event waits for it, and gets that under its new name.
	g.mustRelay("pause vocals billing", "The destination billing of vocals is paused.")
	g.refusedRelay("pause vocals nobody", "nobody")
	second := g.accept("/vocals", callback(t, "waits"))
	library.waitFor(3)
	g.mustRelay("status", "paused")
	g.reload(commandSite("invoices "+billing.URL(), "library "+library.URL()))
	g.mustRelay("status", "orphaned")
	g.mustRelay("reassign vocals billing invoices", "reassigned to invoices")
	if got := billing.waitFor(3); got[2].event() != second {
		t.Errorf("another event came: %s", got[2].event())
	}
	g.mustRelay("pause vocals invoices")
	g.mustRelay("resume vocals invoices", "resumed")
	eventually(t, patience, "everything is settled", g.settled)

	// What is beyond help is discarded, if somebody says yes.
	billing.answers(http.StatusGone)
	g.accept("/vocals", callback(t, "hopeless"))
	eventually(t, patience, "everything is settled", g.settled)
	g.refusedRelay("discard --source vocals", "Delete 1 dead letter for good? Nobody can answer here: repeat the command with --yes")
	g.mustRelay("discard --source vocals --until 1h --yes", "0 deliveries discarded.")
	g.mustRelay("discard --source vocals --yes", "1 delivery discarded.")
	g.mustRelay("dead-letters", "There are no such dead letters.")
}

// TestCommandOnASocket: the commands reach an admin endpoint on a Unix socket, however its address is written.
func TestCommandOnASocket(t *testing.T) {
	t.Parallel()
	socket := "unix/" + filepath.Join(t.TempDir(), "admin.sock")
	g := newGateway(t)
	g.admin = socket + "|0660"
	c := newConsumer(t)
	g.start(commandSite("billing "+c.URL(), "library "+c.URL()))
	g.mustRelay("status", "vocals (open to everyone)")
	g.mustRelay("send vocals", "Accepted as event ")
	c.waitFor(2)
	eventually(t, patience, "everything is settled", func() bool {
		return strings.Contains(g.mustRelay("events", "billing, library"), "delivered")
	})
	for _, flags := range [][]string{{"--address", socket}, {"--config", filepath.Join(g.home, "Caddyfile")}} {
		out, err := caddy(g.home, append([]string{"relay", "replay", "--source", "vocals", "--since", "1h"}, flags...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "2 deliveries") {
			t.Errorf("%v: %v: %s", flags, err, out)
		}
		eventually(t, patience, "everything is settled", func() bool {
			return strings.Contains(g.mustRelay("events --state delivered"), "billing, library")
		})
	}
}

// TestCommandBackup copies a store that is in use, and runs another gateway on the copy.
func TestCommandBackup(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(site)
	id := g.accept("/vocals", callback(t, "kept"))
	eventually(t, patience, "everything is settled", g.settled)
	file := filepath.Join(t.TempDir(), "backup.db")
	g.mustRelay("backup "+file, g.database()+" copied to "+file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy is %v, %v", info, err)
	}
	g.refusedRelay("backup "+file, "--force")
	var copied struct {
		Store, Path string
		Bytes       int64
	}
	if err := json.Unmarshal([]byte(g.mustRelay("backup --force --json "+file)), &copied); err != nil || copied.Store != g.database() || copied.Path != file {
		t.Errorf("the answer is %+v, %v", copied, err)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != copied.Bytes {
		t.Errorf("the copy is %v, %v, of %d bytes", info, err, copied.Bytes)
	}
	later := g.accept("/vocals", callback(t, "later"))

	restored := newGateway(t, "store sqlite "+file)
	restored.start(site)
	if e := restored.event(id); e.State != "delivered" || e.TaskID != "kept" {
		t.Errorf("the event is restored as %+v", e)
	}
	if a := restored.call(http.MethodGet, "/relay/events/"+later, nil); a.status != http.StatusNotFound {
		t.Errorf("what came after the copy is in it: %s", a.body)
	}
	if a := restored.post("/vocals", callback(t, "kept")); a.header.Get("Relay-Duplicate") != "true" {
		t.Errorf("a duplicate is not recognised: %+v", a)
	}
}

// TestProgress: who asks for it is told how far a redrive is, and gets the same answer at the end.
func TestProgress(t *testing.T) {
	t.Parallel()
	const many = 1200 // more than two steps
	g := newGateway(t)
	c := newConsumer(t)
	c.answers(http.StatusGone)
	g.start(`relay /vocals vocals {
		to consumer ` + c.URL() + ` {
			breaker off
			max_in_flight 64
		}
	}`)
	for n := range many {
		g.accept("/vocals", callback(t, fmt.Sprint("task-", n)))
	}
	eventually(t, 3*patience, "everything is settled", g.settled)
	g.do("/relay/destinations/vocals/consumer/pause", nil) // so that none is dead again before the end
	req, err := http.NewRequest(http.MethodPost, "http://"+g.admin+"/relay/dead-letters/redrive", strings.NewReader(`{"source":"vocals"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	start := time.Now()
	a, err := send(adminClient, req)
	if err != nil || a.status != http.StatusOK || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%+v, %v", a, err)
	}
	t.Logf("%d dead letters redriven in %s", many, time.Since(start))
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if len(lines) < 3 || lines[0] != `{"progress":500}` || lines[len(lines)-1] != fmt.Sprintf(`{"redriven":%d}`, many) {
		t.Errorf("the answer is:\n%s", a.body)
	}
}
