package redisstore_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// server is the one that tests share, each with a prefix of its own.
var server *redistest.Server

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "relay-redis-")
	if err == nil {
		server, err = redistest.Launch(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Kill()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// open opens a store on the shared server under the test's own prefix, and closes it with the test.
func open(t testing.TB, change ...func(*redisstore.Options)) *redisstore.Store {
	t.Helper()
	return openAs(t, strings.ReplaceAll(t.Name(), "/", "."), change...)
}

// tester has the methods that openAs needs of a test, or of one try of a model's.
type tester interface {
	Helper()
	Fatal(args ...any)
	Error(args ...any)
	Cleanup(f func())
	Output() io.Writer
}

func openAs(t tester, prefix string, change ...func(*redisstore.Options)) *redisstore.Store {
	t.Helper()
	o := redisstore.Options{
		Addresses: []string{server.Addr},
		KeyPrefix: prefix,
		Logger:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&o)
	}
	s, err := redisstore.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
