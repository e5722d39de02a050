// Package guard keeps a panic of one step from ending the process, and with it every other site that Caddy serves.
package guard

import (
	"fmt"
	"runtime/debug"
)

// Panic is the error of a step that panicked.
type Panic struct {
	Value any    // what it panicked with
	Stack []byte // where, as debug.Stack writes it
}

// Error names what the step panicked with. The stack is left to a log field of its own.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Step runs a step of a long-lived goroutine and returns its error, or a *Panic if it panicked.
func Step(step func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &Panic{Value: value, Stack: debug.Stack()}
		}
	}()
	return step()
}
