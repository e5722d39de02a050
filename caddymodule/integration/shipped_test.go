package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

// TestShippedCaddyfile runs the Caddyfile of `make run`, on other ports, and looks for the callback in what it prints. Then it
// submits tasks to the simulated provider, as `make run` has one.
func TestShippedCaddyfile(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	p, err := fakeprovider.Start(fakeprovider.Options{Delay: 10 * time.Millisecond, Client: g.client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	files := filepath.Join(g.home, "files")
	text := strings.NewReplacer(".run/files", files, "after 15s", "after 1s", "every 5s", "every 1s").Replace(read(t, "../../Caddyfile"))
	for port, address := range map[string]string{
		"8443": g.address, "9101": freeAddress(t), "9102": freeAddress(t), "9103": strings.TrimPrefix(p.URL, "http://"),
	} {
		_, free, _ := net.SplitHostPort(address)
		text = strings.ReplaceAll(text, port, free)
	}
	g.startFile(strings.Replace(text, "{\n", "{\n\tadmin "+g.admin+"\n", 1))
	const secret = "s3cret"
	req, err := http.NewRequest(http.MethodPost, "https://localhost/callbacks/vocals?token="+secret, strings.NewReader(fixture(t, "callback-separate-vocal.json")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "X-Callback-Token": {secret}, "Authorization": {secret}}
	accepted, err := send(g.client, req)
	if err != nil {
		t.Fatal(err)
	}
	id := accepted.eventID()
	for _, name := range []string{"billing", "library"} {
		g.process.waitFor(t, `"consumer": "`+name+`", "webhook_id": "`+id+`", "attempt": "1", "body": "{\"code\":200`)
	}
	if g.post("/elsewhere", "{}").status != http.StatusNotFound {
		t.Error("another path is answered")
	}
	g.process.waitFor(t, `"uri":"/callbacks/vocals"`) // in the access log
	if lines := g.process.Logged(secret); len(lines) > 0 {
		t.Errorf("the token is in the log: %s", lines[0])
	}
	if g.metric(`caddy_relay_callbacks_total{result="accepted",source="vocals"}`) != 1 {
		t.Error("the callback is not counted")
	}

	for fate, origin := range map[string]string{`{}`: "callback", `{"fate":{"never":true}}`: "recovered"} {
		if a := g.post("/api/v1/vocal-removal/generate", fate); a.status != http.StatusOK || !strings.Contains(a.body, `"code":200`) {
			t.Fatalf("submitted: %+v", a)
		}
		tasks := p.Tasks()
		task := tasks[len(tasks)-1]
		var events []event
		eventually(t, patience, "the event of a "+origin+" task is delivered", func() bool {
			events = g.events(url.Values{"task_id": {task.ID}})
			return len(events) == 1 && events[0].State == "delivered"
		})
		if events[0].Origin != origin {
			t.Errorf("origin %s, not %s", events[0].Origin, origin)
		}
		for _, name := range []string{"billing", "library"} {
			g.process.waitFor(t, `"consumer": "`+name+`", "webhook_id": "`+events[0].ID+`", "attempt": "1"`)
		}
		kept := sums(t, files)
		for _, f := range task.Files {
			if !kept[f.SHA256()] {
				t.Errorf("%s is not kept", f.URL)
			}
		}
	}

	g.mustRelay("send vocals", "Accepted as event ")
	eventually(t, patience, "the sample is delivered, and nothing of it is given up", func() bool {
		return g.events(url.Values{})[0].State == "delivered"
	})
	if a := g.send(http.MethodGet, "/dashboard", ""); a.status != http.StatusOK || !strings.Contains(a.header.Get("Content-Type"), "html") {
		t.Errorf("the dashboard answers %+v", a)
	}
	if lines := g.process.Logged("requires TLS"); len(lines) > 0 {
		t.Errorf("warned of what nobody asked for: %s", lines[0])
	}
}

// sums returns the SHA-256 of every file below a folder, in hex.
func sums(t *testing.T, folder string) map[string]bool {
	t.Helper()
	sums := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			sum := sha256.Sum256([]byte(read(t, filepath.Join(folder, path))))
			sums[hex.EncodeToString(sum[:])] = true
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return sums
}

// TestDocumentedCaddyfiles: every Caddyfile that the documentation shows is valid.
func TestDocumentedCaddyfiles(t *testing.T) {
	t.Parallel()
	examples := map[string]string{}
	for _, page := range pages(t) {
		for i, text := range shownCaddyfiles(read(t, page)) {
			examples[fmt.Sprintf("%s, Caddyfile %d", page, i+1)] = text
		}
	}
	// The commented part of the shipped one takes the place of its demo.
	shipped := read(t, "../../Caddyfile")
	options, _, _ := strings.Cut(shipped, "\nlocalhost {")
	_, production, found := strings.Cut(shipped, "#\n# hooks.example.com {")
	if !found {
		t.Fatal("the shipped Caddyfile has no production part")
	}
	uncomment := regexp.MustCompile(`(?m)^# ?`)
	examples["Caddyfile: production"] = options + "\nhooks.example.com {" + uncomment.ReplaceAllString(production, "")

	for name, text := range examples {
		file := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		validate := caddy(t.TempDir(), "validate", "--config", file, "--adapter", "caddyfile")
		for _, variable := range regexp.MustCompile(`{env\.(\w+)}`).FindAllStringSubmatch(text, -1) {
			value := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // does for every secret
			switch {
			case strings.HasSuffix(variable[1], "_HASH"):
				value = exampleSecrets["DASHBOARD_PASSWORD_HASH"]
			case strings.HasSuffix(variable[1], "_URL"):
				value = "https://hooks.example.com/secret"
			}
			validate.Env = append(validate.Env, variable[1]+"="+value)
		}
		if out, err := validate.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
