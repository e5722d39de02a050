package servers_test

import (
	"errors"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSetClock sets the wall clock of a Redis forward and back, which others go by as before.
func TestSetClock(t *testing.T) {
	redis, err := servers.NewRedis(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	defer redis.Kill()
	// Some machines let nobody write into the memory of a process.
	if err := redis.SetClock(0); runtime.GOARCH != "amd64" || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EIO) {
		t.Skip(err)
	}
	for _, by := range []time.Duration{0, 3 * time.Hour, -400 * 24 * time.Hour, 0} {
		if err := redis.SetClock(by); err != nil {
			t.Fatal(err)
		}
		text, err := redis.Do(`EVAL "return redis.call('TIME')[1]" 0`)
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Until(time.Unix(seconds, 0).Add(-by)).Abs(); off > 30*time.Second {
			t.Errorf("set by %s, the clock is off by %s", by, off)
		}
	}
}
