package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandTail: each new event is brought to a local URL as a destination gets it, across a restart of the gateway that
// is not announced, and none is missed.
func TestCommandTail(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c, laptop := newConsumer(t), newConsumer(t)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(site)
	before := g.accept("/vocals", callback(t, "before"))
	tail := startCaddy(t, g.home, "relay", "tail", "--address", g.admin, "--source", "vocals", "--since", before, "--forward", laptop.URL())
	body := "{ \"code\": 200,\n\t\"data\": {\"task_id\": \"spaced\"} }\n"
	first := g.accept("/vocals", body)
	got := laptop.waitFor(1)[0]
	if got.event() != first || got.body != body {
		t.Errorf("forwarded %+v", got)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Relay-Source": "vocals", "Relay-Task-Id": "spaced", "Relay-Attempt": "1",
	} {
		if got.header.Get(name) != value {
			t.Errorf("%s is %q", name, got.header.Get(name))
		}
	}

	tail.waitFor(t, first+" forwarded: 200 OK")
	g.kill()
	g.start(site)
	second := g.accept("/vocals", callback(t, "after"))
	if got := laptop.waitFor(2); got[1].event() != second {
		t.Errorf("forwarded %s, not %s", got[1].event(), second)
	}
	tail.waitFor(t, second+" forwarded: 200 OK")
	if laptop.count() != 2 {
		t.Errorf("%d events were forwarded", laptop.count())
	}
}

// TestCommandRejections: a callback that a wrong secret has rejected is found, and taken in once the secret is mended.
func TestCommandRejections(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.start(`relay /vocals vocals {
		verify token the-wrong-secret {
			header X-Token
		}
		to consumer ` + c.URL() + `
	}`)
	body := callback(t, "rejected")
	g.mustRelay("rejections", "No such callback was rejected")
	if a := g.post("/vocals", body); a.status != http.StatusUnauthorized {
		t.Fatalf("the callback is answered with %+v", a)
	}
	g.mustRelay("rejections", "vocals", "401", "yes")
	var list struct {
		Rejections []struct {
			ID string `json:"id"`
		} `json:"rejections"`
	}
	g.get("/relay/rejections", &list)
	if len(list.Rejections) != 1 {
		t.Fatalf("the rejections are %+v", list)
	}
	g.mustRelay("rejections accept "+list.Rejections[0].ID, "Event ", ": accepted.")
	if got := c.waitFor(1)[0]; got.body != body || got.header.Get("Relay-Task-Id") != "rejected" {
		t.Errorf("the destination got %+v", got)
	}
	g.refusedRelay("rejections accept none", "Error: ")
}

// TestCommandSend: a sample and a file go through the source's door.
func TestCommandSend(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.start(`relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`)
	g.mustRelay("send vocals", "Accepted as event ")
	c.waitFor(1)
	body := strings.Replace(callback(t, "given"), "{", "{ \n", 1)
	file := filepath.Join(t.TempDir(), "callback.json")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	g.mustRelay("send vocals "+file, "Accepted as event ")
	if got := c.waitFor(2)[1]; got.body != body {
		t.Errorf("the destination got %q", got.body)
	}
	g.mustRelay("send vocals "+file, "A duplicate of event ")
	g.refusedRelay("send nobody", "nobody")
}

// TestCommandDoctor: what the doctor finds is shown whole. What that is depends on this machine too.
func TestCommandDoctor(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	down := newDownConsumer(t)
	g.start(`relay /vocals vocals {
		to consumer ` + down.URL() + `
	}`)
	out, _ := g.relay("doctor")
	for _, text := range []string{"STATE", "vocals", "consumer"} {
		if !strings.Contains(out, text) {
			t.Errorf("the doctor does not mention %s:\n%s", text, out)
		}
	}
}
