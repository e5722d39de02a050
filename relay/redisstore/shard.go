package redisstore

import (
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
)

// MaxPartitions is how many partitions a source may have.
const MaxPartitions = 256

// shard is one partition of a source. Dedupe, the order of a task and fencing stay inside it, since all its keys are in one
// slot of a Cluster.
type shard struct {
	source string
	number int
	name   string // orders lists of several shards, and stands in their cursors
	tag    string // what all its keys begin with
}

// layout holds the partitions of the sources of a prefix.
type layout struct {
	keys       keys
	partitions int

	mu     sync.Mutex
	shards map[string][]*shard // by source
}

func newLayout(k keys, partitions int) *layout {
	return &layout{keys: k, partitions: partitions, shards: map[string][]*shard{}}
}

// of returns the partitions of a source: the same ones each time. Many of them take a while to make, which the other sources
// do not wait for.
func (l *layout) of(source string) []*shard {
	l.mu.Lock()
	all := l.shards[source]
	l.mu.Unlock()
	if all != nil {
		return all
	}
	all = make([]*shard, l.partitions)
	for i := range all {
		all[i] = l.make(source, i)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.shards[source]; first != nil {
		return first
	}
	l.shards[source] = all
	return all
}

// with adds a partition to a list that does not have it.
func with(shards []*shard, h *shard) []*shard {
	if slices.Contains(shards, h) {
		return shards
	}
	return append(shards, h)
}

// make returns a new partition. Those of a source are spread evenly over the slots, and so over masters that have as many slots
// each: by chance alone one of three masters would often have half of them.
func (l *layout) make(source string, number int) *shard {
	if l.partitions == 1 {
		return &shard{source: source, name: source, tag: l.keys.tag(source)}
	}
	name := fmt.Sprintf("%s/%d", source, number)
	for spread := 0; ; spread++ {
		if tag := fmt.Sprintf("%s.%d", name, spread); int(slotOf(tag))*l.partitions/slots == number {
			return &shard{source: source, number: number, name: name, tag: l.keys.tag(tag)}
		}
	}
}

// ofTask returns the partition of a task.
func (l *layout) ofTask(source, task string) *shard { return l.pick(source, []byte(task)) }

// ofAccept returns the partition of an event that is to be accepted.
func (l *layout) ofAccept(a *relay.Accept) *shard {
	if a.ByKey {
		return l.pick(a.Event.Source, a.Event.Key[:])
	}
	return l.pick(a.Event.Source, []byte(a.Event.TaskID))
}

// ofToken returns the partition of a lease.
func (l *layout) ofToken(source string, token uint64) *shard {
	all := l.of(source)
	return all[int(token>>tokenBits)%len(all)]
}

// pick returns the partition of what is hashed. Which one that is must never change.
func (l *layout) pick(source string, text []byte) *shard {
	all := l.of(source)
	return all[crc32.ChecksumIEEE(text)%uint32(len(all))]
}

// tokenBits is how many bits of a lease's token the script counts in. Those above are the number of its partition, by which a
// settle finds it: the rule by which the event was placed may have changed since.
const tokenBits = 56

// token returns the token of a lease, which a script has given: negated if it is in the event's record.
func (h *shard) token(n int64) uint64 {
	if n < 0 {
		return uint64(h.number)<<tokenBits | uint64(-n) | packedToken
	}
	return uint64(h.number)<<tokenBits | uint64(n)
}

// ofScript returns the token as the script gave it.
func ofScript(token uint64) uint64 { return token & (packedToken - 1) }

// packedToken is set in the token of a delivery that was leased in its event's record (pack.go). Scripts count by microseconds,
// which leaves it free.
const packedToken = 1 << (tokenBits - 1)

// slots is how many slots a Cluster has.
const slots = 1 << 14

// slotOf returns the slot of a hash tag, by the CRC-16 of the Redis Cluster specification.
func slotOf(tag string) uint16 {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}
