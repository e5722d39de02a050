package intake

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// ErrUnreadable is why an operator's callback cannot be taken in: the source cannot read it. It wraps the reason.
var ErrUnreadable = errors.New("the source cannot read this callback")

// RefusedError is why an operator's callback is not taken in: its media type, encoding or size, for which the source refuses
// it from anyone.
type RefusedError struct {
	Status  int    // that a sender is answered with
	Code    string // for programs
	Message string // one sentence, for people
}

func (e *RefusedError) Error() string { return e.Message }

// Admit accepts a callback for an operator, whose word replaces the checks of address and signature. It is checked, read,
// recognised as a duplicate, and accepted as any other.
func (in *Intake) Admit(ctx context.Context, src *relay.Source, header http.Header, body []byte) (Receipt, error) {
	r := (&http.Request{Header: header}).WithContext(ctx)
	return in.admit(ctx, src, header, body, storedHeaders(r, src))
}

func (in *Intake) admit(ctx context.Context, src *relay.Source, header http.Header, body []byte, stored relay.Headers) (Receipt, error) {
	start := time.Now()
	if rej := checkContent(src, header, int64(len(body))); rej != nil {
		return Receipt{}, &RefusedError{rej.status, rej.code, rej.message}
	}
	id, err := Identify(src, body, header)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	ev := id.event(src, relay.OriginOperator, start, stored, body)
	outcome, err := in.params.Door.Accept(ctx, src, ev, start)
	switch {
	case errors.Is(err, errFull):
		return Receipt{}, fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	case err != nil:
		return Receipt{}, err
	case outcome.Result.Refusal() != nil:
		return Receipt{}, relay.ErrUnkept
	}
	return Receipt{Result: outcome.Name(), EventID: outcome.EventID, TaskID: ev.TaskID}, nil
}

// AcceptRejected accepts a rejected callback after all, with the settings that its source has now. Each one is accepted
// once at most, whoever asks.
func (in *Intake) AcceptRejected(ctx context.Context, id string, source func(name string) *relay.Source) (Receipt, error) {
	r, err := in.rejections.take(id)
	if err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	defer func() { in.rejections.taken(r, receipt.EventID) }()
	src := source(r.Source)
	if src == nil {
		return Receipt{}, fmt.Errorf("source %q: %w", r.Source, relay.ErrNotFound)
	}
	receipt, err = in.admit(ctx, src, r.header, r.Body, r.Headers)
	return receipt, err
}

// Sample returns a callback for a first try of a source, of a task that was not there before. It names no files if the
// source has an archive, since nobody serves them.
func Sample(src *relay.Source) (body []byte, header http.Header) {
	withFiles := ArchiveOf(src) == nil
	opts := relay.ReadOptions{Format: src.Body, Paths: dedupePaths(src.Dedupe)}
	body, header = src.Provider.Sample("sample-"+NewID(time.Now()), withFiles, opts)
	for _, f := range src.Dedupe {
		if f.Kind == relay.DedupeHeader && header.Get(f.Name) == "" {
			header.Set(f.Name, "sample")
		}
	}
	return body, header
}
