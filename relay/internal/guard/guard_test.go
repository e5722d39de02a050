//go:build unix

package guard_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

func TestStep(t *testing.T) {
	if err := guard.Step(func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := guard.Step(func() error { return io.EOF }); !errors.Is(err, io.EOF) || guard.Stack(err) != "" || guard.Faulted(err) {
		t.Errorf("an error comes out as %v", err)
	}
	caught := guard.Caught()
	err := guard.Step(func() error { panic(io.ErrUnexpectedEOF) })
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(guard.Stack(err), "TestStep") || guard.Faulted(err) {
		t.Errorf("a panic comes out as %v with the stack %s", err, guard.Stack(err))
	}
	if err := guard.Step(func() error { panic("text") }); err == nil || err.Error() != "panic: text" {
		t.Errorf("a panic comes out as %v", err)
	}
	if n := guard.Caught() - caught; n != 2 {
		t.Errorf("%d panics were counted", n)
	}
}

// A mapped file that somebody cuts would end the process.
func TestFault(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "mapped"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(8192); err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = guard.Step(func() error { sum += mapped[5000]; return nil })
	if !guard.Faulted(err) {
		t.Errorf("a memory fault comes out as %v, %d", err, sum)
	}
}
