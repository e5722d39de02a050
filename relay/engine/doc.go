// Package engine composes the parts of a relay and manages their lifecycle. Each part is a package of its own that receives
// what it depends on as parameters, so that a test can construct it alone. No part knows the engine.
//
//	intake    checks a callback over HTTP, identifies and accepts it, and answers (receive.go); its Door accepts an event
//	          from any origin, without HTTP; it keeps the newest rejected callbacks in memory
//	expect    polls the details of tasks whose callback has not come in time, and has what they say accepted
//	commit    writes what waits, accepts and settles and leases together, in one durable step after the other; Access is
//	          the way to a store that may not be open
//	lane      decides for one destination what may start: slots, rate, breaker, pause. machine is a pure state machine;
//	          Lane adds the lock, the timer and the attempts
//	courier   makes one attempt and describes its outcome in one sentence
//	spooling  sends callbacks to the spool while the store cannot accept them, and drains the spool in order
//	sweep     expires, purges, and watches the store's health
//	report    passes log lines and hooks on, so that nobody waits for their sinks (6)
//	alert     turns conditions (dead letters, a silent source and so on) into events of the built-in source `relay`
//	stream    passes on to watchers what happens to events on this node; who publishes never waits for them
//	meter     counts; it outlives engines and reloads
//
// The engine itself keeps the generations of settings (generation.go), the operations of the admin API (operate.go), what
// is stored for those who watch the stream (backlog.go), the status and the gauges.
//
// # Goroutines
//
// Every goroutine has an owner that stops it and waits for it. Each step of a loop is guarded: a panic is logged with its
// stack, shows as an unhealthy store, and the step is tried again (12).
//
//	owner                goroutines                                       stopped by
//	report.Reporter      one writes log lines, one runs hooks             Close, which waits at most 2 s for a stuck sink
//	commit.Committers    one per Committer: one for all sources (SQLite)  Stop, after what is queued has been written
//	                     or one per source (Redis)
//	lane.Lanes           one per attempt in flight, which waits some      Stop, which cancels attempts that are still in
//	                     seconds for another; a timer per lane            flight after the drain time
//	spooling.Spooling    one opens the spool, one appends to it and has   Stop
//	                     it heal, one drains each source that has entries
//	expect.Poller        one for each source that recovers, and one       Stop, which cuts polls under way short
//	                     per poll under way
//	overdue.Lookout      one of the committers and two of the intake,     Stop of the committers and of the intake
//	                     while accepts or bodies have a deadline
//	Engine.expecting     one per registration of a task under way         Close
//	Engine               one reopens a store that could not be opened,    Close
//	                     one sweeps, one sweeps archives, one listens to
//	                     the wake-ups of a shared store, one sends alerts
//	sqlitestore.Store    one looks after the file (keep.go)               Close
//	redisstore.Store     four: watch the sources, announce this node,     Close
//	                     publish wake-ups, subscribe to them
//	verifier.Ed25519     one fetches a sender's keys, when they are       Close
//	                     needed
//
// A callback is handled on the goroutine of its HTTP request, which waits for the committer. A settle that could not be
// written is queued again by a timer of its committer. The spool's file has no goroutine of its own, and the courier one only
// while it writes a body that is not answered yet.
//
// Close stops them in the order of the data: polls, lanes, committers, spooling, the engine's own, the spool, the store, and last
// the reporter, so that all others can still log.
//
// # Lock order
//
// A lock may be taken only while those held come before it in a chain. Locks that are in no chain are leaves: nothing else
// is locked, and no I/O is done, while they are held.
//
//	Sweeper.looking → Engine.mu → Lanes.mu → Lane.mu → Committers.mu
//	                                                 → Committer.mu
//	                                                 → Metrics.mu
//	Engine.mu → Poller.mu
//	Engine.starting → all of the above    (Start and Close)
//	Engine.pausing  → Lanes.mu → Lane.mu  (Pause)
//
// In the stores, sqlitestore.Store.write, which guards the writing connection, comes before Store.mem; spool.Spool.mu
// guards its file likewise. The locks of redisstore are leaves.
//
// Some locks are held during I/O on purpose. Engine.starting (while the store is opened or closed), Engine.pausing (while a
// pause is stored) and Sweeper.looking (while a store reports its health) are never needed to answer a callback. The locks
// that guard a file are held while it is written, which only those wait for who want to write to that file. Log lines
// that are written under a lock only enter the reporter's queue.
package engine
