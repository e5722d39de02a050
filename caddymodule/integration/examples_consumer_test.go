package integration

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sign(algorithmKey []byte, message string) []byte {
	mac := hmac.New(sha256.New, algorithmKey)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func signHex(secret, message string) string { return hex.EncodeToString(sign([]byte(secret), message)) }

// signature is that of Standard Webhooks.
func signature(t *testing.T, secret, id, timestamp, body string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	return "v1," + base64.StdEncoding.EncodeToString(sign(key, id+"."+timestamp+"."+body))
}

// exampleConsumer is one of the consumers that the documentation offers for copying.
type exampleConsumer struct {
	t       *testing.T
	command []string
	address string
	inbox   string
	cmd     *exec.Cmd
}

func newExampleConsumer(t *testing.T, command ...string) *exampleConsumer {
	t.Helper()
	c := &exampleConsumer{t: t, command: command, address: freeAddress(t), inbox: filepath.Join(t.TempDir(), "inbox")}
	c.start()
	t.Cleanup(c.kill)
	return c
}

func (c *exampleConsumer) start() {
	c.t.Helper()
	c.cmd = exec.Command(c.command[0], c.command[1:]...)
	c.cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+exampleSecrets["BILLING_SECRET"], "ADDRESS="+c.address, "INBOX="+c.inbox)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, patience, "the consumer listens", func() bool {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", c.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (c *exampleConsumer) kill() {
	_ = c.cmd.Process.Kill() // fails only where it has ended already
	_ = c.cmd.Wait()
}

func (c *exampleConsumer) URL() string { return "http://" + c.address + "/hooks" }

// kept returns the bodies in the consumer's inbox by id.
func (c *exampleConsumer) kept() map[string]string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.inbox, "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	kept := map[string]string{}
	for _, file := range files {
		kept[strings.TrimSuffix(filepath.Base(file), ".json")] = read(c.t, file)
	}
	return kept
}

// post sends what a destination gets, or a forgery of it.
func (c *exampleConsumer) post(id, timestamp, signature, body string) int {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.URL(), strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	a, err := send(adminClient, req)
	if err != nil {
		c.t.Fatal(err)
	}
	return a.status
}

// TestExampleConsumers: the consumers in Go and in Node take what the gateway has signed, once, and nothing else.
func TestExampleConsumers(t *testing.T) {
	t.Parallel()
	inGo := filepath.Join(t.TempDir(), "consumer")
	output(t, exec.Command("go", "build", "-o", inGo, examples+"consumer"))
	for name, command := range map[string][]string{"go": {inGo}, "node": {"node", examples + "consumer/consumer.mjs"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newExampleConsumer(t, command...)
			g := newGateway(t)
			g.start(fmt.Sprintf(`relay /vocals vocals {
				to signed %[1]s {
					sign {env.BILLING_SECRET}
				}
				to rotating %[1]s {
					sign {env.LIBRARY_SECRET} {env.BILLING_SECRET}
				}
				to forged %[1]s {
					sign {env.LIBRARY_SECRET}
					permanent 401
				}
				to unsigned %[1]s {
					permanent 401
				}
			}`, c.URL()))
			body := fixture(t, "callback-separate-vocal.json")
			id := g.accept("/vocals", body)
			checkDeliveries(t, g, id, 1)
			if kept := c.kept(); len(kept) != 1 || kept[id] != body {
				t.Fatalf("after four deliveries of %s, two of them signed, the inbox has %v", id, kept)
			}

			// A consumer that was restarted still knows what it has.
			c.kill()
			c.start()
			if n := g.do("/relay/events/"+id+"/replay", map[string]any{})["replayed"]; n != 4 {
				t.Fatalf("%d deliveries are replayed", n)
			}
			checkDeliveries(t, g, id, 2)
			if kept := c.kept(); len(kept) != 1 || kept[id] != body {
				t.Errorf("after a replay the inbox has %v", kept)
			}
			checkForgeries(t, c, body)
		})
	}
}

// checkDeliveries waits until an event is settled, and checks that each delivery was tried so many times and that only the
// signed ones were taken.
func checkDeliveries(t *testing.T, g *gateway, id string, attempts int) {
	t.Helper()
	eventually(t, patience, "everything is settled", func() bool {
		settled := 0
		for _, d := range g.event(id).Deliveries {
			if len(d.Attempts) == attempts && (d.State == "delivered" || d.State == "dead") {
				settled++
			}
		}
		return settled == 4
	})
	for _, d := range g.event(id).Deliveries {
		want := map[string]int{"signed": 204, "rotating": 204, "forged": 401, "unsigned": 401}[d.Destination]
		if got := d.Attempts[attempts-1]; got.Status != want {
			t.Errorf("%s is answered %d %s, not %d", d.Destination, got.Status, got.Error, want)
		}
	}
}

func checkForgeries(t *testing.T, c *exampleConsumer, body string) {
	t.Helper()
	secret, now := exampleSecrets["BILLING_SECRET"], time.Now()
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for name, forgery := range map[string]struct{ id, timestamp, signature, body string }{
		"another body":      {"a", at(0), signature(t, secret, "a", at(0), "{}"), body},
		"another id":        {"a", at(0), signature(t, secret, "b", at(0), body), body},
		"another time":      {"a", at(0), signature(t, secret, "a", at(-time.Minute), body), body},
		"too old":           {"a", at(-6 * time.Minute), signature(t, secret, "a", at(-6*time.Minute), body), body},
		"of the future":     {"a", at(6 * time.Minute), signature(t, secret, "a", at(6*time.Minute), body), body},
		"no time":           {"a", "", signature(t, secret, "a", "", body), body},
		"another version":   {"a", at(0), "v2" + signature(t, secret, "a", at(0), body)[2:], body},
		"a part of it":      {"a", at(0), signature(t, secret, "a", at(0), body)[:20], body},
		"an empty one":      {"a", at(0), "v1,", body},
		"none":              {"a", at(0), "", body},
		"no id, no version": {"", at(0), ",", body},
	} {
		if status := c.post(forgery.id, forgery.timestamp, forgery.signature, forgery.body); status != http.StatusUnauthorized {
			t.Errorf("%s: answered %d", name, status)
		}
	}
	// What holds the secret could still not write outside the inbox.
	if status := c.post("../a", at(0), signature(t, secret, "../a", at(0), body), body); status != http.StatusServiceUnavailable {
		t.Errorf("an id that is a path: answered %d", status)
	}
	before := len(c.kept())
	if status := c.post("a", at(-4*time.Minute), "v1,AAAA "+signature(t, secret, "a", at(-4*time.Minute), body), body); status != http.StatusNoContent {
		t.Errorf("the second of two signatures is right: answered %d", status)
	}
	if kept := c.kept(); len(kept) != before+1 || kept["a"] != body {
		t.Errorf("the inbox has %v", kept)
	}
}
