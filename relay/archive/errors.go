package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/publicnet"
)

// refusal is why a file is not taken. Its text is a sentence about the file.
type refusal struct {
	text    string
	status  int  // by which its server refused it
	final   bool // another try ends the same way
	restart bool // it may come if it is asked for from its beginning
}

func (r *refusal) Error() string { return r.text }

// errRestart matches a refusal that may be tried again from the beginning.
var errRestart = errors.New("restart")

// Is implements errors.Is.
func (r *refusal) Is(target error) bool { return target == errRestart && r.restart }

// refuse returns a refusal that is final.
func refuse(format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...), final: true}
}

// storageError is an error of the storage.
type storageError struct{ err error }

func (e *storageError) Error() string { return e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// sentence returns what an operator reads about an error. It holds neither a URL, which may carry a secret,
// nor anything that a server sent.
func sentence(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.text
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it was not fetched and stored in time"
	case errors.Is(err, context.Canceled):
		return "the gateway stopped"
	}
	if e, ok := errors.AsType[*publicnet.AddressError](err); ok {
		return "its host resolves to an address that is not public: " + e.Addr.String()
	}
	if e, ok := errors.AsType[*guard.PanicError](err); ok {
		return "the archive failed: " + cause.Of(e)
	}
	if e, ok := errors.AsType[*storageError](err); ok {
		return e.Error() // by which a storage says what it failed at, in words of its own
	}
	return cause.Of(err)
}
