package chaos

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// unsent is a connection that is closed before the answer is written.
type unsent struct{ http.ResponseWriter }

func (unsent) FlushError() error { return errors.New("closed") }

// The gateway may try again where the consumer cannot know that its answer has arrived, and only there.
func TestAnswersThatMayNotHaveArrived(t *testing.T) {
	for name, test := range map[string]struct {
		closed bool          // before the answer is written
		leaves time.Duration // after the answer
		want   bool
	}{
		"the connection is closed before the answer": {closed: true, want: true},
		"the consumer leaves as it has answered":     {leaves: 50 * time.Millisecond, want: true},
		"the consumer leaves later":                  {leaves: 150 * time.Millisecond, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &consumer{name: "steady", ledger: newLedger(), mood: fine}
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(plainTask.body()))
				for key, value := range map[string]string{"Relay-Source": plainSource, "Relay-Task-Id": plainTask.task, "Webhook-Id": "plain"} {
					r.Header.Set(key, value)
				}
				var w http.ResponseWriter = httptest.NewRecorder()
				if test.closed {
					w = unsent{w}
				}
				c.ServeHTTP(w, r)
				if test.leaves > 0 {
					<-time.After(test.leaves)
					c.leave()
				}
				got := c.ledger.requests[delivery{"plain", "steady"}]
				if len(got) != 1 || got[0].status != http.StatusOK || got[0].cut != test.want {
					t.Errorf("the ledger has %+v", got)
				}
			})
		})
	}
}
