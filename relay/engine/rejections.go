package engine

import (
	"context"
	"fmt"
	"net/http"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

// Rejections returns the newest rejected callbacks that this node keeps, of one source or, where it is empty, of all. The
// newest come first, and next is the cursor of those that follow; empty where none do. What they hold must not be changed.
// Errors: relay.ErrBadCursor.
func (e *Engine) Rejections(source string, limit int, cursor string) (page []intake.Rejected, next string, err error) {
	return e.intake.Rejections(source, limit, cursor)
}

// AcceptRejected accepts a rejected callback after all, with the settings that its source has now. Errors:
// relay.ErrNotFound, intake.ErrTaken, intake.ErrNotKept, *intake.RefusedError, intake.ErrUnreadable, relay.ErrUnkept, and those
// of an accept.
func (e *Engine) AcceptRejected(ctx context.Context, id string) (intake.Receipt, error) {
	return e.intake.AcceptRejected(ctx, id, e.Source)
}

// Admit accepts a callback that an operator sends, through the door of a source. Errors: relay.ErrNotFound,
// *intake.RefusedError, intake.ErrUnreadable, relay.ErrUnkept, and those of an accept.
func (e *Engine) Admit(ctx context.Context, source string, header http.Header, body []byte) (intake.Receipt, error) {
	src := e.Source(source)
	if src == nil {
		return intake.Receipt{}, fmt.Errorf("source %q: %w", source, relay.ErrNotFound)
	}
	return e.intake.Admit(ctx, src, header, body)
}

// Source returns a source of the current settings; nil if there is none of this name.
func (e *Engine) Source(name string) *relay.Source { return e.settings.Load().Sources[name] }
