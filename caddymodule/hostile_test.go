package caddymodule

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHostileBodies sends bodies that readers of JSON disagree about: each is refused, or delivered byte for byte under the
// one id that it can mean.
func TestHostileBodies(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	g.mustLoad(`{}`,
		named(t, "suno", url, nil),
		named(t, "custom", url, map[string]any{"provider": map[string]any{"name": "custom", "task_id": "id"}}),
	)
	for body, task := range map[string]string{ // no task: refused
		"{\"id\":\"a\x00\"}": "", "{\"id\":\"a\"}\x00": "", "\x00{\"id\":\"a\"}": "", `{"id":"a\u0000"}`: "",
		`{"id":"n-1","x":"\u0000"}`: "n-1", `{"id":"n-2","\u0000":1}`: "n-2",
		`{"id":7}`: "7", `{"id":12345678901234567890}`: "12345678901234567890",
		`{"id":9007199254740992}`: "9007199254740992", `{"id":9007199254740993}`: "9007199254740993",
		`{"id":true}`: "", `{"id":null}`: "", `{"id":{}}`: "", `{"id":[1]}`: "", `{"id":NaN}`: "", `{"id":0x10}`: "", `{"id":1e+400}`: "",
		`{"id":"a","id":"b"}`: "", `{"id":"a","\u0069d":"b"}`: "", `{"id":"r-1","x":1,"x":2}`: "r-1",
		"{\"id\":\"a\",\"x\":\"\xc0\xaf\"}": "", "{\"id\":\"a\",\"x\":\"\xed\xa0\x80\"}": "", `{"id":"u-1","x":"\ud800"}`: "u-1",
		`{"id":"d-1","x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`: "d-1",
		`{"id":"a","x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`:   "",
		`{"id":"a","x":` + strings.Repeat("[", 4<<20-20) + `}`:                       "",
		`{"id":"h-1"` + strings.Repeat(`,"x":0`, 600_000) + `}`:                      "h-1",
		`{"id":"h-2","x":[` + strings.Repeat(`0,`, 2_000_000) + `0]}`:                "h-2",
		`{"id":"h-3","x":` + strings.Repeat("9", 4_000_000) + `}`:                    "h-3",
		`{"id":` + strings.Repeat("9", 129) + `}`:                                    "",
	} {
		got := g.send("custom", "application/json", body, nil)
		if task == "" {
			if got.status != http.StatusBadRequest || got.event != "" {
				t.Errorf("%.60q: answered %+v", body, got)
			}
			continue
		}
		if got.status != http.StatusOK || got.duplicate {
			t.Errorf("%.60q: answered %+v", body, got)
			continue
		}
		if d := next(); d.body != body || d.Get("Relay-Task-Id") != task {
			t.Errorf("%.60q: delivered %.60q of the task %s", body, d.body, d.Get("Relay-Task-Id"))
		}
	}
	if got := g.send("suno", "application/json", `{"code":200,"data":{"task_id":7}}`, nil); got.status != http.StatusBadRequest {
		t.Errorf("a number where the provider has texts: answered %+v", got)
	}
}

// TestCapturedSignature sends a callback's signature again, with the same body, with another, and for another task.
func TestCapturedSignature(t *testing.T) {
	const secret = "s3cret"
	g := newGateway(t)
	url, next := recorder(t)
	kie := func(fields map[string]any) map[string]any {
		fields["verify"] = []any{map[string]any{"verifier": "kie", "secret": secret}}
		fields["provider"] = map[string]any{"name": "kie"}
		return named(t, fields["source"].(string), url, fields)
	}
	covered := named(t, "covered", url, map[string]any{"verify": []any{
		map[string]any{"verifier": "hmac", "secret": secret, "header": "X-Signature", "timestamp_header": "X-Time"},
	}})
	g.mustLoad(`{}`, kie(map[string]any{"source": "keep"}), kie(map[string]any{"source": "deliver", "conflict": "deliver"}), covered)
	at := strconv.FormatInt(time.Now().Unix(), 10)
	body := func(task, file string) string {
		return `{"code":200,"data":{"task_id":"` + task + `","vocal_removal_info":{"vocal_url":"https://files.example.com/` + file + `"}}}`
	}
	sum := func(message string) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	captured := map[string]string{"X-Webhook-Signature": base64.StdEncoding.EncodeToString(sum("t." + at)), "X-Webhook-Timestamp": at}
	for _, source := range []string{"keep", "deliver"} {
		first := g.send(source, "application/json", body("t", "v.mp3"), captured)
		if first.status != http.StatusOK || first.event == "" {
			t.Fatalf("%s: answered %+v", source, first)
		}
		next()
		if again := g.send(source, "application/json", body("t", "v.mp3"), captured); again.status != http.StatusOK || !again.duplicate || again.event != first.event {
			t.Errorf("%s, the same again: %+v", source, again)
		}
		// Where it does not cover the body, one captured signature makes one variant at most, which nobody is sent.
		if got := g.send(source, "application/json", body("t", "other.mp3"), captured); source == "keep" && !got.duplicate || source == "deliver" && got.status != http.StatusUnauthorized {
			t.Errorf("%s, another body: answered %+v", source, got)
		}
		for name, forged := range map[string]string{"another file": body("t", "evil.mp3"), "another task": body("u", "v.mp3")} {
			if got := g.send(source, "application/json", forged, captured); got.status != http.StatusUnauthorized || got.event != "" {
				t.Errorf("%s, %s: answered %+v", source, name, got)
			}
		}
		// A forged callback with another code cannot be told from a genuine one: the task may still get that code.
		otherCode := strings.Replace(body("t", "evil.mp3"), "200", "500", 1)
		if got := g.send(source, "application/json", otherCode, captured); got.status != http.StatusOK || got.duplicate || got.event == first.event {
			t.Errorf("%s, another code: answered %+v", source, got)
		}
		next()
	}
	signed := func(at, body string) map[string]string {
		return map[string]string{"X-Signature": hex.EncodeToString(sum(at + "." + body)), "X-Time": at}
	}
	genuine := body("t", "v.mp3")
	if got := g.send("covered", "application/json", genuine, signed(at, genuine)); got.status != http.StatusOK {
		t.Fatalf("answered %+v", got)
	}
	next()
	old := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	renewed := signed(old, genuine)
	renewed["X-Time"] = at
	for name, forged := range map[string]map[string]string{
		"stale": signed(old, genuine), "renewed": renewed, "of another body": signed(at, body("t", "w.mp3")), "none": nil,
	} {
		if got := g.send("covered", "application/json", genuine, forged); got.status != http.StatusUnauthorized {
			t.Errorf("%s: answered %+v", name, got)
		}
	}
}
