package guard_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

func TestStep(t *testing.T) {
	plain := errors.New("plain")
	if err := guard.Step(func() error { return plain }); !errors.Is(err, plain) {
		t.Errorf("an error became %v", err)
	}
	if err := guard.Step(func() error { return nil }); err != nil {
		t.Errorf("a good step ended in %v", err)
	}
	err := guard.Step(func() error { return explode(nil) })
	p, ok := errors.AsType[*guard.Panic](err)
	if !ok || !bytes.Contains(p.Stack, []byte("explode")) {
		t.Errorf("a panic became %v with the stack\n%s", err, p.Stack)
	}
}

func explode(of map[string]int) error {
	of["nil"]++
	return nil
}
