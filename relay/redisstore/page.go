package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// pageRows is how many rows are read at once. One page of a list looks at scanRows, and once some of them were not wanted at
// those alone for which there is time: each costs Redis several commands.
const (
	pageRows = 200
	scanRows = 1000
	scanTime = 25 * time.Millisecond
)

// shelf is one sorted set of event ids by sequence: the events of a partition, a task's events, or a destination's dead letters.
type shelf struct {
	*shard
	key         string
	task        string // of the events of a task, which stand in a set by name
	byTask      bool
	destination string
}

// row is a place in a list. Lists are ordered by sequence, then by partition and destination, ascending.
type row struct {
	*shard
	seq         int64
	destination string
	id          string
}

// cursor returns the cursor with which a list continues after the row.
func (r *row) cursor() string {
	return strconv.FormatInt(r.seq, 36) + "~" + r.name + "~" + r.destination
}

func parseCursor(cursor string) (*row, error) {
	if cursor == "" {
		return nil, nil
	}
	f := strings.Split(cursor, "~")
	if len(f) != 3 {
		return nil, relay.ErrBadCursor
	}
	seq, err := strconv.ParseInt(f[0], 36, 64)
	if err != nil || seq < 0 {
		return nil, relay.ErrBadCursor
	}
	return &row{shard: &shard{name: f[1]}, seq: seq, destination: f[2]}, nil
}

// behind returns the place in a list, the oldest first, that is behind all rows of a sequence number.
func behind(seq int64) *row { return &row{shard: &shard{name: afterNames}, seq: seq} }

// afterNames comes after the name of every shard, since no source's has such a sign.
const afterNames = "~"

// page returns the next n rows of all shelves together, after `from` if that is not nil. Fewer than n are the last. Of many
// shelves it reads a part of each that would do if they were even, and more of them only where it does not.
func (s *Store) page(ctx context.Context, shelves []shelf, from *row, newest bool, n int) ([]row, error) {
	if len(shelves) == 0 {
		return nil, nil
	}
	for each := min(n, 2*n/len(shelves)+10); ; each = min(n, 4*each) {
		rows, whole, err := s.pageOf(ctx, shelves, from, newest, each)
		if err != nil {
			return nil, err
		}
		if len(rows) >= n || whole || each == n {
			return rows[:min(n, len(rows))], nil
		}
	}
}

// pageOf reads the next rows of each shelf, and returns those before which no other is still to be read. whole reports that
// there are no more.
func (s *Store) pageOf(ctx context.Context, shelves []shelf, from *row, newest bool, each int) (rows []row, whole bool, err error) {
	pipe := s.client.Pipeline()
	entries := make([]func() ([]row, error), len(shelves))
	for i, sh := range shelves {
		args := sh.args(from, newest, each)
		if sh.byTask {
			names := pipe.ZRangeArgs(ctx, args)
			entries[i] = func() ([]row, error) { return sh.named(names.Val()) }
		} else {
			scored := pipe.ZRangeArgsWithScores(ctx, args)
			entries[i] = func() ([]row, error) { return sh.scored(scored.Val()), nil }
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, explain(err)
	}
	order := func(a, b row) int {
		bySeq := cmp.Compare(a.seq, b.seq)
		if newest {
			bySeq = -bySeq
		}
		return cmp.Or(bySeq, cmp.Compare(a.name, b.name), cmp.Compare(a.destination, b.destination))
	}
	var last *row // of the shelf that is read least far
	for _, of := range entries {
		some, err := of()
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, some...)
		if end := len(some) - 1; len(some) == each && (last == nil || order(some[end], *last) < 0) {
			last = &some[end]
		}
	}
	slices.SortFunc(rows, order)
	if last == nil {
		return rows, true, nil
	}
	known := slices.IndexFunc(rows, func(r row) bool { return order(r, *last) > 0 })
	if known < 0 {
		return rows, false, nil
	}
	return rows[:known], false, nil
}

func (sh shelf) scored(entries []redis.Z) []row {
	rows := make([]row, len(entries))
	for i, z := range entries {
		rows[i] = row{shard: sh.shard, seq: int64(z.Score), destination: sh.destination}
		rows[i].id, _ = z.Member.(string)
	}
	return rows
}

// named reads entries of a set by name: task, NUL, sequence in 16 digits, event id.
func (sh shelf) named(entries []string) ([]row, error) {
	rows := make([]row, len(entries))
	for i, name := range entries {
		rest := name[min(len(name), len(sh.task)+1):]
		digits := min(len(rest), 16)
		seq, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("redis: unreadable entry of task %q: %w", sh.task, err)
		}
		rows[i] = row{shard: sh.shard, seq: seq, destination: sh.destination, id: rest[digits:]}
	}
	return rows, nil
}

// args asks for a shelf's next n entries after from.
func (sh shelf) args(from *row, newest bool, n int) redis.ZRangeArgs {
	a := redis.ZRangeArgs{Key: sh.key, ByScore: !sh.byTask, ByLex: sh.byTask, Rev: newest, Count: int64(n)}
	first, last := "-inf", "+inf"
	if sh.byTask {
		first, last = "["+sh.task+"\x00", "("+sh.task+"\x01"
	}
	if from != nil {
		// Of one sequence number, a later partition's or destination's row is still to come.
		same := cmp.Or(cmp.Compare(sh.name, from.name), cmp.Compare(sh.destination, from.destination)) > 0
		bound := sh.bound(from.seq, same, newest)
		if newest {
			last = bound
		} else {
			first = bound
		}
	}
	a.Start, a.Stop = first, last
	if newest {
		a.Start, a.Stop = last, first
	}
	return a
}

// bound is the end of a range at seq, with what has this very number or without.
func (sh shelf) bound(seq int64, inclusive, newest bool) string {
	if sh.byTask {
		if inclusive == newest {
			seq++ // a name goes on after its number: those of seq itself are before seq+1
		}
		return fmt.Sprintf("(%s\x00%016d", sh.task, seq)
	}
	if inclusive {
		return strconv.FormatInt(seq, 10)
	}
	return "(" + strconv.FormatInt(seq, 10)
}
