package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func embedded(w *world) string {
	if w.redis != nil {
		return "an embedded store"
	}
	return ""
}

// exhaustDescriptors leaves a gateway a few descriptors, or none.
func exhaustDescriptors(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	over := w.ledger.begin("descriptors", g.n)
	defer over()
	pid := g.running().Cmd.Process.Pid
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil // it was killed meanwhile
	}
	var former unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &former); err != nil {
		return mayBeGone(err)
	}
	few := unix.Rlimit{Cur: uint64(len(open) + rng.IntN(8)), Max: former.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		return mayBeGone(err)
	}
	wait(ctx, between(rng, 500*time.Millisecond, 2*time.Second))
	return mayBeGone(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &former, nil))
}

// mayBeGone returns an error of a process, unless that was killed meanwhile.
func mayBeGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// noticedWithin is how long a gateway may need to notice that somebody has touched its files.
const noticedWithin = 1500 * time.Millisecond

// harmFiles removes or replaces a file of an embedded store, or cuts its index, and puts the database back. The gateway is not
// killed before it has mended the rest: what was in a removed file would be lost with it. A log that was cut is lost in any case.
func harmFiles(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	g.fate.Lock()
	defer g.fate.Unlock()
	over := w.ledger.begin("files", g.n)
	defer over()
	db := g.database()
	away := db + ".taken"
	take := func() error { return os.Rename(db, away) }
	zeros := func(file string) error { return os.WriteFile(file, make([]byte, 8<<10), 0o600) }
	putBack := func() error { return os.Rename(away, db) }
	mended := func() error { return nil }
	kinds := []struct{ harm, mend func() error }{
		{take, putBack},
		{func() error { return errors.Join(take(), zeros(db)) }, putBack},
	}
	for _, file := range []string{db + "-wal", db + "-shm"} {
		kinds = append(kinds, []struct{ harm, mend func() error }{
			{func() error { return os.Remove(file) }, mended},
			{func() error { return errors.Join(os.Remove(file), zeros(file)) }, mended},
		}...)
	}
	kinds = append(kinds, struct{ harm, mend func() error }{func() error { return os.Truncate(db+"-shm", 0) }, mended})
	kind := kinds[rng.IntN(len(kinds))]
	if err := kind.harm(); err != nil {
		return errors.Join(err, kind.mend())
	}
	wait(ctx, between(rng, 100*time.Millisecond, 2*time.Second))
	if err := kind.mend(); err != nil {
		return err
	}
	wait(context.WithoutCancel(ctx), noticedWithin)
	return w.healthy(g)
}

// ownDisk returns what is lacking for a disk of a gateway's own, or nothing.
func ownDisk(w *world) string {
	if w.disk == "" {
		return "a mount of its own (needs root)"
	}
	return ""
}

// diskSize is more than the free space that a gateway wants.
const diskSize = 400 << 20

// mount mounts a small disk at a folder, where that is allowed.
func mount(dir string) error {
	return syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))
}

// fillDisk fills the disk of the store, or of a gateway's spool, to the last byte or below the reserve, and makes room again.
func fillDisk(ctx context.Context, w *world, rng *rand.Rand) error {
	over := w.ledger.begin("disk", 0)
	defer over()
	file := filepath.Join(w.disk, "filler")
	var free syscall.Statfs_t
	if err := syscall.Statfs(w.disk, &free); err != nil {
		return err
	}
	size := int64(free.Bavail) * free.Bsize
	if rng.IntN(2) == 0 {
		size = max(size-100<<20, 0)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.ENOSPC) { // the gateway has written meanwhile
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	wait(ctx, between(rng, 500*time.Millisecond, 3*time.Second))
	if err := os.Remove(file); err != nil || w.redis != nil {
		return err
	}
	return w.healthy(w.gateways[0])
}

// healthy waits until the store of a gateway is up.
func (w *world) healthy(g *gateway) error {
	return until(context.Background(), patience, "the store is up", func() error {
		s, err := g.status(context.Background())
		if err == nil && !s.Store.Up {
			err = errors.New(s.Store.Error)
		}
		return err
	})
}

// unmount unmounts a disk that mount has mounted.
func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
