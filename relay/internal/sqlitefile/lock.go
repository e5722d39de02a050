package sqlitefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	lockWait  = 10 * time.Second
	lockRetry = 100 * time.Millisecond

	lockSuffix = ".lock"
)

// held has the names of the lock files that this process holds. The id in a lock file cannot tell: in containers that share
// a folder, every gateway is process 1.
var held sync.Map

// lock is a lock file, which names the process that has the file.
type lock struct{ *flock.Flock }

// acquire waits for another process that has the file, which may be about to stop. It does not wait for this one: whoever
// has the file here may stop only after the caller has gone on.
func acquire(ctx context.Context, path, kind string) (lock, error) {
	l := lock{flock.New(path+lockSuffix, flock.SetPermissions(0o600))}
	if _, ours := held.Load(l.Path()); ours {
		return l, relay.ErrStoreHeld
	}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	locked, err := l.TryLockContext(waiting, lockRetry)
	if locked {
		if err := os.WriteFile(l.Path(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
			return l, errors.Join(err, l.Unlock())
		}
		held.Store(l.Path(), true)
		return l, nil
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return l, fmt.Errorf("locking it: %w", err)
	}
	holder := "another process"
	if pid, err := os.ReadFile(l.Path()); err == nil && len(pid) > 0 {
		holder = "process " + strings.TrimSpace(string(pid))
	}
	return l, fmt.Errorf("it is in use by %s; stop that one, or configure another path for this %s: %w", holder, kind, relay.ErrStoreLocked)
}

// release unlocks the lock file.
func (l lock) release() error {
	defer held.Delete(l.Path())
	return l.Unlock()
}
