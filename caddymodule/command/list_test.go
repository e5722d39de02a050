package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

var sampleEvents = []api.Event{
	{
		ID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", ReceivedAt: now.Add(-12 * time.Second), Source: "vocals", TaskID: "5c79be8e-task-of-a-provider",
		Stage: "complete", State: "dead",
		Deliveries: []api.Delivery{{Destination: "library", State: "delivered"}, {Destination: "billing", State: "dead"}},
	},
	{ID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAC", ReceivedAt: now.Add(-72 * time.Hour), Source: "stems", TaskID: "7", State: "delivered"},
}

var sampleDeadLetters = []api.DeadLetter{{
	EventID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", DeadAt: now.Add(-11 * time.Hour), Source: "vocals", Destination: "billing.example.com",
	TaskID: "5c79be8e-task-of-a-provider", Attempts: 4, LastStatus: 500, LastError: "the response ends before its length",
}}

var sampleTasks = []api.Task{
	{
		TaskID: "1f0e6a52-7c1b-4c3f-9d3e-2b8a5f6c7d8e", Source: "vocals", State: "given_up", ExpectedAt: now.Add(-26 * time.Hour), Polls: 117,
		LastPollAt: new(now.Add(-5 * time.Minute)), Reason: "the provider knows no such task",
	},
	{TaskID: "7", Source: "stems", State: "recovered", ExpectedAt: now.Add(-time.Hour), EventID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB"},
}

var sampleRejections = []api.Rejection{{
	ID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", At: now.Add(-time.Minute), Source: "vocals", Status: 401, Client: "2001:db8::1", TaskID: "7", CanAccept: true,
	Message: "The signature is not valid.",
}}

// Each list at the widths of terminals: a row is one line at each of them, with the columns that matter most.
func TestLists(t *testing.T) {
	for name, list := range map[string]struct {
		write func(io.Writer, int) error
		wants map[int]string
	}{
		"events": {func(w io.Writer, width int) error { return events.write(w, width, sampleEvents, now) }, map[int]string{
			0: `
ID                          RECEIVED  SOURCE  TASK                         STAGE     STATE      DELIVERIES
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  12s ago   vocals  5c79be8e-task-of-a-provider  complete  dead       billing dead, library
01K2Q7ZJ0V3E8Y4M6T5R9W1XAC  3d ago    stems   7                                      delivered
`,
			40: `
ID                          STATE
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  dead
01K2Q7ZJ0V3E8Y4M6T5R9W1XAC  delivered
`,
			80: `
ID                          RECEIVED  SOURCE  TASK        STATE      DELIVERIES
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  12s ago   vocals  5c79be8e-…  dead       billing de…
01K2Q7ZJ0V3E8Y4M6T5R9W1XAC  3d ago    stems   7           delivered
`,
			120: `
ID                          RECEIVED  SOURCE  TASK                         STAGE     STATE      DELIVERIES
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  12s ago   vocals  5c79be8e-task-of-a-provider  complete  dead       billing dead, library
01K2Q7ZJ0V3E8Y4M6T5R9W1XAC  3d ago    stems   7                                      delivered
`,
		}},
		"dead letters": {func(w io.Writer, width int) error { return deadLetters.write(w, width, sampleDeadLetters, now) }, map[int]string{
			0: `
EVENT                       GIVEN UP    SOURCE  DESTINATION          TASK                         TRIES  LAST ANSWER
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  11h00m ago  vocals  billing.example.com  5c79be8e-task-of-a-provider      4  500 the response ends before its length
`,
			40: `
EVENT                       DESTINATION
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  billing.exa…
`,
			80: `
EVENT                       GIVEN UP    SOURCE  DESTINAT…  TASK       LAST ANSW…
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  11h00m ago  vocals  billing.…  5c79be8e…  500 the r…
`,
			120: `
EVENT                       GIVEN UP    SOURCE  DESTINATION          TASK                   TRIES  LAST ANSWER
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  11h00m ago  vocals  billing.example.com  5c79be8e-task-of-a-p…      4  500 the response end…
`,
		}},
		"tasks": {func(w io.Writer, width int) error { return tasks.write(w, width, sampleTasks, now) }, map[int]string{
			0: `
TASK                                  SOURCE  STATE      EXPECTED    POLLS  LAST POLL  EVENT                       REASON
1f0e6a52-7c1b-4c3f-9d3e-2b8a5f6c7d8e  vocals  given up   26h00m ago    117  5m00s ago                              the provider knows no such task
7                                     stems   recovered  1h00m ago       0             01K2Q7ZJ0V3E8Y4M6T5R9W1XAB
`,
			40: `
TASK                           STATE
1f0e6a52-7c1b-4c3f-9d3e-2b8a…  given up
7                              recovered
`,
			80: `
TASK                                  SOURCE  STATE      EXPECTED    REASON
1f0e6a52-7c1b-4c3f-9d3e-2b8a5f6c7d8e  vocals  given up   26h00m ago  the provid…
7                                     stems   recovered  1h00m ago
`,
			120: `
TASK                                  SOURCE  STATE      EXPECTED    LAST POLL  EVENT                       REASON
1f0e6a52-7c1b-4c3f-9d3e-2b8a5f6c7d8e  vocals  given up   26h00m ago  5m00s ago                              the provide…
7                                     stems   recovered  1h00m ago              01K2Q7ZJ0V3E8Y4M6T5R9W1XAB
`,
		}},
		"rejections": {func(w io.Writer, width int) error { return rejections.write(w, width, sampleRejections, now) }, map[int]string{
			0: `
ID                          WHEN       SOURCE  STATUS  SENDER       TASK  KEPT  REASON
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  1m00s ago  vocals     401  2001:db8::1  7     yes   The signature is not valid.
`,
			40: `
ID                          REASON
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  The signatu…
`,
			80: `
ID                          WHEN       SOURCE  STATUS  SENDER    KEPT  REASON
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  1m00s ago  vocals     401  2001:db…  yes   The sign…
`,
			120: `
ID                          WHEN       SOURCE  STATUS  SENDER       TASK  KEPT  REASON
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  1m00s ago  vocals     401  2001:db8::1  7     yes   The signature is not valid.
`,
		}},
	} {
		for width, expected := range list.wants {
			var b strings.Builder
			if err := list.write(&b, width); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprint(name, " at ", width), func(t *testing.T) { want(t, b.String(), width, expected) })
		}
	}
}

// A list of rejected callbacks that is cut says so.
func TestRejections(t *testing.T) {
	var asked []string
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/rejections": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		_ = json.NewEncoder(w).Encode(api.Rejections{Rejections: []api.Rejection{{ID: "rejected-1"}}, Next: r.FormValue("source")})
	}})
	out, err := execute(t, t.Context(), "", "rejections", address, "--source=vocals", "--limit=1")
	if err != nil || !strings.Contains(out.out, "rejected-1") || !strings.Contains(out.err, "There are more rejected callbacks: raise --limit") {
		t.Errorf("output %+v, error %v", out, err)
	}
	if out, err = execute(t, t.Context(), "", "rejections", address); err != nil || out.err != "" {
		t.Errorf("output %+v, error %v", out, err)
	}
	if expected := []string{"limit=1&source=vocals", "limit=50"}; !slices.Equal(asked, expected) {
		t.Errorf("asked %q", asked)
	}
}
