// Package guard keeps a panic in one step of a goroutine from ending the process.
package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
)

// PanicError is the error of a step that panicked.
type PanicError struct {
	Value any    // that the step panicked with
	Stack []byte // of the goroutine, as debug.Stack returns it
}

// Error returns the value, without the stack, which is too long for a status page.
func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap returns the value if it is an error, and nil otherwise.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

var caught atomic.Uint64

// Caught returns how many panics Step has caught since the process started.
func Caught() uint64 { return caught.Load() }

// Step runs f and returns its error, or a *PanicError if f panics. A memory fault counts as a panic too: a read of a mapped file
// that somebody else has truncated would end the process otherwise.
func Step(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			caught.Add(1)
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Stack returns the stack of the panic in err's chain, for a log line, or "" if there is none.
func Stack(err error) string {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return string(p.Stack)
	}
	return ""
}

// Faulted reports whether err is of a memory fault.
func Faulted(err error) bool {
	p, ok := errors.AsType[*PanicError](err)
	if !ok {
		return false
	}
	_, ok = p.Value.(interface{ Addr() uintptr })
	return ok
}
