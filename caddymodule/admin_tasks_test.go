package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A task that is registered over the admin API is recovered from its details, in the form of the provider's callback and
// without the URL that this would have been sent to.
func TestAdminTasks(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	details := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/vocal-removal/record-info" || r.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = fmt.Fprintf(w, `{"code":200,"msg":"success","data":{"taskId":%q,"callbackUrl":"https://hooks.example.com/?token=s3cret",`+
			`"response":{"vocalUrl":"https://f.example/v.mp3","instrumentalUrl":"https://f.example/i.mp3"},"successFlag":"SUCCESS"}}`, r.URL.Query().Get("taskId"))
	}))
	t.Cleanup(details.Close)
	recovers := map[string]any{"recover": map[string]any{"base": details.URL, "header": map[string]any{"Authorization": "Bearer s3cret"}, "after": "1ms", "every": "1s"}}
	g.mustLoad(`{}`, to(t, c.URL, recovers), to(t, c.URL, map[string]any{"source": "plain"}))

	const api = "api/v1/vocal-removal/generate"
	for _, tc := range []struct {
		body   string
		status int
		code   string
	}{
		{`{"source":"vocals","task_id":"one"}`, 400, "bad_request"},
		{`{"source":"vocals","task_id":"one","api":"api/v1/vocal-removel"}`, 400, "bad_request"},
		{`{"source":"vocals","task_id":"no id","api":"` + api + `"}`, 400, "bad_request"},
		{`{"source":"vocals","api":"` + api + `"}`, 400, "bad_request"},
		{`{"source":"nobody","task_id":"one","api":"` + api + `"}`, 404, "not_found"},
		{`{"source":"plain","task_id":"one","api":"` + api + `"}`, 409, "conflict"},
	} {
		if status, answer := admin(t, http.MethodPost, "/relay/tasks", tc.body); status != tc.status || answer["error"] != tc.code {
			t.Errorf("%s: %d %v", tc.body, status, answer)
		}
	}
	if status, answer := admin(t, http.MethodPost, "/relay/tasks", `{"source":"vocals","task_id":"one"}`); status != 400 || !strings.Contains(fmt.Sprint(answer["message"]), "API that the task was submitted to") {
		t.Errorf("without an API: %v", answer)
	}

	keys(t, "expected", mustAdmin(t, http.MethodPost, "/relay/tasks", `{"source":"vocals","task_id":"one","api":"/`+api+`"}`), "source", "task_id")
	body := c.await(t)
	if !strings.Contains(body, "vocal_removal_info") || !strings.Contains(body, "https://f.example/v.mp3") || strings.Contains(body, "s3cret") {
		t.Errorf("delivered %s", body)
	}
	answer := mustAdmin(t, http.MethodGet, "/relay/tasks?source=vocals&state=recovered", "")
	one := first(t, answer, "tasks")
	keys(t, "task", one, "source", "task_id", "api", "state", "expected_at", "polls", "last_poll_at", "ended_at", "event_id")
	if one["task_id"] != "one" || one["api"] != api || one["state"] != "recovered" || one["polls"] != 1.0 || answer["next"] != "" {
		t.Errorf("task: %v", one)
	}
	if event := mustAdmin(t, http.MethodGet, "/relay/events/"+one["event_id"].(string), ""); event["origin"] != "recovered" || strings.Contains(fmt.Sprint(event), "s3cret") {
		t.Errorf("event: %v", event)
	}
	for path, want := range map[string]int{
		"/relay/tasks?state=overdue": 0, "/relay/tasks?task_id=one": 1, "/relay/tasks?task_id=two": 0, "/relay/tasks?source=plain": 0, "/relay/tasks?limit=1": 1,
	} {
		if tasks := mustAdmin(t, http.MethodGet, path, "")["tasks"].([]any); len(tasks) != want {
			t.Errorf("%s: %d tasks", path, len(tasks))
		}
	}
	if status, answer := admin(t, http.MethodGet, "/relay/tasks?state=lost", ""); status != http.StatusBadRequest {
		t.Errorf("an unknown state: %d %v", status, answer)
	}
	for _, src := range mustAdmin(t, http.MethodGet, "/relay/status", "")["sources"].([]any) {
		source := src.(map[string]any)
		if counts, shown := source["tasks"].(map[string]any); shown != (source["name"] == "vocals") || shown && (counts["expected"] != 0.0 || counts["overdue"] != 0.0) {
			t.Errorf("status of a source: %v", source)
		}
	}
}
