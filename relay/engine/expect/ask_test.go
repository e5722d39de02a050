package expect

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// reader has the details of one API.
type reader struct{}

func (reader) DetailsPath(api, taskID string) (string, bool) {
	return "api/v1/wav/record-info?taskId=" + url.QueryEscape(taskID), api == "api/v1/wav/generate"
}

func (reader) Judge(api, _ string, status int, body []byte) relay.Verdict {
	kind, reason, _ := strings.Cut(string(body), " ")
	v := relay.Verdict{Reason: reason, Kind: map[string]relay.VerdictKind{
		"pending": relay.VerdictPending, "success": relay.VerdictSuccess, "failed": relay.VerdictFailed,
		"again": relay.VerdictAgain, "refused": relay.VerdictRefused,
	}[kind]}
	if status != http.StatusOK {
		v = relay.Verdict{Kind: relay.VerdictAgain, Reason: http.StatusText(status)}
	}
	if v.Kind == relay.VerdictSuccess || v.Kind == relay.VerdictFailed {
		v.Body = []byte(api + ": " + reason)
	}
	return v
}

// poster is a reader that is asked at /posted by POST.
type poster struct{ reader }

func (poster) DetailsBody(api, taskID string) []byte {
	if api == "/posted" {
		return []byte(`"` + taskID + `"`)
	}
	return nil
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAddress(t *testing.T) {
	base, details := mustURL(t, "https://api.example/v2/"), mustURL(t, "http://10.0.0.1/details?key=k")
	for _, tc := range []struct {
		r                *relay.Recovery
		api, want, judge string
	}{
		{&relay.Recovery{Base: base}, "api/v1/wav/generate", "https://api.example/v2/api/v1/wav/record-info?taskId=a%3Ab", "api/v1/wav/generate"},
		{&relay.Recovery{Base: base}, "api/v1/other", "", ""},
		{&relay.Recovery{}, "api/v1/wav/generate", "", ""},
		{&relay.Recovery{Base: base, Details: details}, "", "http://10.0.0.1/details?key=k&taskId=a%3Ab", "details"},
		{&relay.Recovery{Details: details}, "api/v1/other", "http://10.0.0.1/details?key=k&taskId=a%3Ab", "api/v1/other"},
	} {
		u, api, ok := address(reader{}, tc.r, &relay.ExpectedTask{TaskID: "a:b", API: tc.api})
		if ok != (tc.want != "") || ok && (u.String() != tc.want || api != tc.judge) {
			t.Errorf("%+v: %v, %q, %v", tc, u, api, ok)
		}
	}
	if details.RawQuery != "key=k" {
		t.Errorf("the configured URL was changed to %v", details)
	}
}

func TestAsk(t *testing.T) {
	client := newClient(newTransport())
	t.Cleanup(client.CloseIdleConnections)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != "api.example" || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("User-Agent") != "caddy-relay/test":
			w.WriteHeader(http.StatusTeapot)
		case r.URL.Path == "/posted":
			if r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/json" {
				_, _ = io.Copy(w, r.Body)
			}
		case r.Method != http.MethodGet || r.Header.Get("Content-Type") != "":
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case r.URL.Path == "/astray":
			w.Header().Set("Location", "https://api.example/%zz?key=secret")
			w.WriteHeader(http.StatusFound)
		default:
			_, _ = w.Write([]byte("0123456789"))
		}
	}))
	t.Cleanup(server.Close)
	header := http.Header{"Authorization": {"Bearer secret"}, "Host": {"api.example"}}
	question := func(path string, most int64) (int, string, error) {
		target := mustURL(t, server.URL+path)
		status, body, err := ask(context.Background(), client, target, postBody(poster{}, target, "4711"), header, "test", most)
		return status, string(body), err
	}
	if status, body, err := question("/", 10); status != http.StatusOK || body != "0123456789" || err != nil {
		t.Errorf("%d, %q, %v", status, body, err)
	}
	if status, body, err := question("/posted", 100); status != http.StatusOK || body != `"4711"` || err != nil {
		t.Errorf("%d, %q, %v", status, body, err)
	}
	if status, _, err := question("/moved", 100); status != http.StatusFound || err != nil {
		t.Errorf("a redirect was answered %d, %v", status, err)
	}
	if _, _, err := question("/", 9); err == nil {
		t.Error("read more than it may")
	}
	if _, _, err := question("/astray", 100); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a redirect to a malformed URL: %v", err)
	}
	server.Close()
	if _, _, err := question("/?key=secret", 10); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody there: %v", err)
	}
}
