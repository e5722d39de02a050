package sqlitefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	lockWait  = 10 * time.Second
	lockRetry = 100 * time.Millisecond
)

// acquire locks the lock file, which names the process that has the file.
func acquire(ctx context.Context, path, kind string) (*flock.Flock, error) {
	name := path + ".lock"
	lock := flock.New(name, flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	locked, err := lock.TryLockContext(waiting, lockRetry)
	if locked {
		if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
			return nil, errors.Join(err, lock.Unlock())
		}
		return lock, nil
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("locking it: %w", err)
	}
	holder := "another process"
	if pid, err := os.ReadFile(name); err == nil && len(pid) > 0 {
		holder = "process " + strings.TrimSpace(string(pid))
	}
	return nil, fmt.Errorf("it is in use by %s; stop that one, or configure another path for this %s: %w", holder, kind, relay.ErrStoreLocked)
}
