package intake

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Recover accepts the callback that a task's details amount to. It is read, recognised as a duplicate, and accepted as any
// other, but only where the task is still expected: else the result is relay.Unexpected.
func (in *Intake) Recover(ctx context.Context, src *relay.Source, taskID string, body []byte) (Outcome, error) {
	start := time.Now()
	header := http.Header{"Content-Type": {"application/json"}}
	id, err := Identify(src, body, header)
	if err == nil && id.ID != taskID {
		err = fmt.Errorf("its task id is %q", id.ID)
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	ev := id.event(src, relay.OriginRecovered, start, relay.Headers{"content-type": "application/json"}, body)
	return in.params.Door.Accept(ctx, src, ev, start)
}

// CheckTaskID returns an error unless a callback may be about a task of this id.
func CheckTaskID(id string) error { return checkTask(&relay.Task{ID: id}, "") }
