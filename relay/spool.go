package relay

import "time"

// MaxRefused is how often a store may refuse an accept that it could have taken before the accept is set aside.
const MaxRefused = 10

// Spool keeps accepts of this node, and its registrations of tasks, durably, while the store cannot take them.
type Spool interface {
	// Append makes accepts durable, all or none. ErrStoreFull (wrapped) means that it holds as much as it may.
	Append(accepts []*Accept) error
	// AppendTask makes the registration of a task durable, as Append does an accept.
	AppendTask(e *Expectation) error
	// Next returns up to n entries of a source, in the order in which they came, but none that is stuck. One that cannot be
	// read has an error, and neither accept nor task.
	Next(source string, n int) ([]*Spooled, error)
	// Remove deletes entries that the store has. Where it returns an error they are gone all the same, for as long as the
	// process lives: Next returns them no more, Stat's Events are without them, and Probe tries to delete them again.
	Remove(items []*Spooled) error
	// Refuse counts that the store has refused an entry, and reports whether that was once too often: then it is stuck. One
	// that cannot be read is stuck at once. Where it returns an error, that is so all the same, as with Remove.
	Refuse(item *Spooled, reason string) (stuck bool, err error)
	// Waiting counts the entries of each source, without what is stuck.
	Waiting() (map[string]int, error)
	// Probe returns why the spool cannot take what comes, or nil. Where Stat has an error it opens the file anew, or writes a
	// little to it, durably: so that the error is gone once its cause is, and not only when the next entry comes.
	Probe() error
	// Stat describes the spool. It never waits.
	Stat() SpoolStat
	Close() error
}

// Spooled is one entry of a spool.
type Spooled struct {
	Seq     int64
	Accept  *Accept      // nil if the entry is a task's
	Task    *Expectation // that is to be registered
	Refused int
	Err     error // it cannot be read
}

// SpoolStat describes a spool.
type SpoolStat struct {
	Path   string
	Events int // that wait, without what is stuck
	Stuck  int
	Bytes  int64
	Free   int64     // bytes on its disk, at the last probe; -1 where unknown
	Oldest time.Time // that waits; zero if none does
	Error  string    // why the spool cannot take what comes; empty if it can
}

// Age is how long ago the oldest entry came that still waits; zero if none does.
func (s SpoolStat) Age() time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(s.Oldest))
}
