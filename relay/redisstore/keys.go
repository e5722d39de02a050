package redisstore

// Every key of the store is named here.
//
// All keys of a partition of a source carry one hash tag, so that a script touches one slot of a Cluster, and sources and
// their partitions spread over its masters. The tag is {<source>} where a source has one partition, and else
// {<source>/<partition>.<spread>}: a number that puts it where its part of the slots is (shard.go).
//
//	<prefix>:{<tag>}:head       hash: wall, run, seq (the partition's clock); x the last lease of a task; d:<destination> deliveries delivered; p:<destination> paused; f:<destination> deliveries leased in their events' records; w:<destination> deliveries that wait for their first lease, or are in it, without a record of their own
//	<prefix>:{<tag>}:seen       hash: dedupe key → fingerprint, event id, and its first acceptance
//	<prefix>:{<tag>}:recent     list: first acceptances, each with the dedupe keys of a script (forget.lua)
//	<prefix>:{<tag>}:packs      hash: event id → the event's record, with those of its deliveries that have no record of their own (prelude.lua)
//	<prefix>:{<tag>}:held       sorted set: events with leases in their records, by when the first of them ends
//	<prefix>:{<tag>}:done       list: last settles with events that have nothing open and nothing dead, by that
//	<prefix>:{<tag>}:settled    sorted set: the same, where something was dead once or the event is of the earlier layout
//	<prefix>:{<tag>}:events     sorted set: event ids by sequence
//	<prefix>:{<tag>}:tasks      sorted set, by name: task NUL sequence event id
//	<prefix>:{<tag>}:notes      hash: <event id>:u duplicates, :c conflicts, :n variants, :<n>:f|m|h|b a variant, :g the sequence before its leases where a later try of its accept was given them
//	<prefix>:{<tag>}:buried     sorted set: events with nothing open and something dead, by last settle
//	<prefix>:{<tag>}:v:<id>     string: what is sent of an event, and what lists show (payload.go)
//	<prefix>:{<tag>}:e:<id>     hash: attempts and files of an event that are not in its record
//	<prefix>:{<tag>}:x:tasks    hash: expected tasks, by name; those that have ended too
//	<prefix>:{<tag>}:x:due      sorted set: tasks that are expected, by when they are polled, or their lease ends
//	<prefix>:{<tag>}:x:late     sorted set: the same, by when they are overdue
//	<prefix>:{<tag>}:x:list     sorted set: tasks by sequence of their registration
//	<prefix>:{<tag>}:x:ended    sorted set: tasks that have ended, by when they did
//
//	<prefix>:{<tag>}:q:<destination>:due|leased|pending|state|dead|order
//
// The earlier layout had an event in the hash e:<id>, with fields m, h, b, k, d, s, o, x, w and g, its source's clock under meta,
// where a later gateway leaves a string in its place, and
//
//	<prefix>:{<tag>}:window     sorted set: dedupe keys by first acceptance
//
// and three that belong to no source:
//
//	<prefix>:partitions   how many partitions each source has; absent where a gateway that knew of none has written
//	<prefix>:sources      set: sources that have, or had, events
//	<prefix>:nodes        hash: gateways, by their last beat
//
// and the channel <prefix>:wake.
//
// Nothing has a TTL: a key that went by itself would take a delivery with it.
type keys struct{ prefix string }

func (k keys) partitions() string { return k.prefix + ":partitions" }
func (k keys) sources() string    { return k.prefix + ":sources" }
func (k keys) nodes() string      { return k.prefix + ":nodes" }
func (k keys) wake() string       { return k.prefix + ":wake" }

// tag returns what all keys with a hash tag begin with.
func (k keys) tag(tag string) string { return k.prefix + ":{" + tag + "}:" }

func (h *shard) event(id string) string   { return h.tag + "e:" + id }
func (h *shard) payload(id string) string { return h.tag + "v:" + id }
func (h *shard) packs() string            { return h.tag + "packs" }
func (h *shard) done() string             { return h.tag + "done" }
func (h *shard) events() string           { return h.tag + "events" }
func (h *shard) tasks() string            { return h.tag + "tasks" }
func (h *shard) notes() string            { return h.tag + "notes" }
func (h *shard) settled() string          { return h.tag + "settled" }
func (h *shard) buried() string           { return h.tag + "buried" }
func (h *shard) due(d string) string      { return h.tag + "q:" + d + ":due" }
func (h *shard) pending(d string) string  { return h.tag + "q:" + d + ":pending" }
func (h *shard) dead(d string) string     { return h.tag + "q:" + d + ":dead" }
func (h *shard) delivery(d string) string { return h.tag + "q:" + d + ":state" }

func (h *shard) expectedTasks() string { return h.tag + "x:tasks" }
func (h *shard) expectedDue() string   { return h.tag + "x:due" }
func (h *shard) taskList() string      { return h.tag + "x:list" }

// taskKeys is how many keys the expected tasks of a partition have.
const taskKeys = 5

// expected appends the keys of its expected tasks, in the order of task.lua.
func (h *shard) expected(block []string) []string {
	t := h.tag + "x:"
	return append(block, t+"tasks", t+"due", t+"late", t+"list", t+"ended")
}

// blockKeys is how many keys block returns.
const blockKeys = 13

// block returns the keys that every script of a partition begins with, in the order of clock.lua.
func (h *shard) block(more int) []string {
	t := h.tag
	block := make([]string, 0, blockKeys+more)
	return append(block, t+"head", t+"seen", t+"window", t+"events", t+"tasks", t+"notes", t+"settled", t+"buried",
		t+"packs", t+"held", t+"recent", t+"done", t+"meta")
}

// blockSize is how many keys a destination has.
const blockSize = 6

// queue appends the block of a destination's keys.
func (h *shard) queue(block []string, destination string) []string {
	q := h.tag + "q:" + destination
	return append(block, q+":due", q+":leased", q+":pending", q+":state", q+":dead", q+":order")
}
