package redisstore

// Every key of the store is named here.
//
// All keys of a source carry its name as their hash tag, so that a script touches one slot of a Cluster and sources
// spread over its masters:
//
//	<prefix>:{<source>}:head       hash: wall, run, seq (the source's clock); x the last lease of a task; d:<destination> deliveries delivered; p:<destination> paused; f:<destination> deliveries leased in their events' records
//	<prefix>:{<source>}:seen       hash: dedupe key → fingerprint, event id, and its first acceptance
//	<prefix>:{<source>}:recent     list: first acceptances, each with the dedupe keys of a script (forget.lua)
//	<prefix>:{<source>}:packs      hash: event id → the event's record, with those of its deliveries that have no members of their own (prelude.lua)
//	<prefix>:{<source>}:held       sorted set: events with leases in their records, by when the first of them ends
//	<prefix>:{<source>}:done       list: last settles with events that have nothing open and nothing dead, by that
//	<prefix>:{<source>}:events     sorted set: event ids by sequence
//	<prefix>:{<source>}:tasks      sorted set, by name: task NUL sequence event id
//	<prefix>:{<source>}:notes      hash: <event id>:u duplicates, :c conflicts, :n variants, :<n>:f|m|h|b a variant
//	<prefix>:{<source>}:settled    sorted set: the same, where something was dead once or the event is of the earlier layout
//	<prefix>:{<source>}:buried     sorted set: events with nothing open and something dead, by last settle
//	<prefix>:{<source>}:v:<id>     string: what is sent of an event, and what lists show (encode.go)
//	<prefix>:{<source>}:e:<id>     hash: attempts and files of an event that are not in its record
//	<prefix>:{<source>}:x:tasks    hash: expected tasks, by name; those that have ended too
//	<prefix>:{<source>}:x:due      sorted set: tasks that are expected, by when they are polled, or their lease ends
//	<prefix>:{<source>}:x:late     sorted set: the same, by when they are overdue
//	<prefix>:{<source>}:x:list     sorted set: tasks by sequence of their registration
//	<prefix>:{<source>}:x:ended    sorted set: tasks that have ended, by when they did
//
//	<prefix>:{<source>}:q:<destination>:due|leased|pending|state|dead|order
//
// The earlier layout had an event in the hash e:<id>, with fields m, h, b, k, d, s, o, x, w and g, and its source's clock under
// meta, where a later gateway leaves a string in its place. Its dedupe keys are in
//
//	<prefix>:{<source>}:window     sorted set: dedupe keys by first acceptance
//
// and two keys belong to no source:
//
//	<prefix>:sources   set: sources that have, or had, events
//	<prefix>:nodes     hash: gateways, by their last beat
//
// and the channel <prefix>:wake.
//
// Nothing has a TTL: a key that went by itself would take a delivery with it.
type keys struct{ prefix string }

func (k keys) sources() string { return k.prefix + ":sources" }
func (k keys) nodes() string   { return k.prefix + ":nodes" }
func (k keys) wake() string    { return k.prefix + ":wake" }

// tag begins all keys of a source.
func (k keys) tag(source string) string { return k.prefix + ":{" + source + "}:" }

func (k keys) event(source, id string) string   { return k.tag(source) + "e:" + id }
func (k keys) payload(source, id string) string { return k.tag(source) + "v:" + id }
func (k keys) packs(source string) string       { return k.tag(source) + "packs" }
func (k keys) done(source string) string        { return k.tag(source) + "done" }
func (k keys) events(source string) string      { return k.tag(source) + "events" }
func (k keys) tasks(source string) string       { return k.tag(source) + "tasks" }
func (k keys) notes(source string) string       { return k.tag(source) + "notes" }
func (k keys) settled(source string) string     { return k.tag(source) + "settled" }
func (k keys) buried(source string) string      { return k.tag(source) + "buried" }
func (k keys) pending(source, d string) string  { return k.tag(source) + "q:" + d + ":pending" }
func (k keys) dead(source, d string) string     { return k.tag(source) + "q:" + d + ":dead" }
func (k keys) delivery(source, d string) string { return k.tag(source) + "q:" + d + ":state" }

func (k keys) expectedTasks(source string) string { return k.tag(source) + "x:tasks" }
func (k keys) expectedDue(source string) string   { return k.tag(source) + "x:due" }
func (k keys) taskList(source string) string      { return k.tag(source) + "x:list" }

// taskKeys is how many keys the expected tasks of a source have.
const taskKeys = 5

// expected appends the keys of a source's expected tasks, in the order of task.lua.
func (k keys) expected(block []string, source string) []string {
	t := k.tag(source) + "x:"
	return append(block, t+"tasks", t+"due", t+"late", t+"list", t+"ended")
}

// sourceKeys is how many keys the block of a source has.
const sourceKeys = 13

// source is the block of keys that every script of a source begins with, in the order of prelude.lua.
func (k keys) source(source string, more int) []string {
	t := k.tag(source)
	block := make([]string, 0, sourceKeys+more)
	return append(block, t+"head", t+"seen", t+"window", t+"events", t+"tasks", t+"notes", t+"settled", t+"buried",
		t+"packs", t+"held", t+"recent", t+"done", t+"meta")
}

// blockSize is how many keys a destination has.
const blockSize = 6

// destination appends the block of a destination's keys.
func (k keys) destination(block []string, source, destination string) []string {
	q := k.tag(source) + "q:" + destination
	return append(block, q+":due", q+":leased", q+":pending", q+":state", q+":dead", q+":order")
}
