package sqlitestore

import "context"

// lock is a mutex of which those who wait can give up. They get it in the order in which they came.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// TryLock locks l unless it is locked, and reports whether it did.
func (l lock) TryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockWithin locks l, unless the context ends first. One that has ended already may lock what is free.
func (l lock) LockWithin(ctx context.Context) error {
	if l.TryLock() {
		return nil
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
