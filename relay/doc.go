// Package relay defines the nouns of a durable webhook relay and the contracts between its parts: events, sources,
// destinations, stores and spools. It has no goroutine, no lock and no metric; package engine puts the parts together.
//
// # The way of a callback
//
//	sender ──POST──▶ receive ─▶ verify ─▶ identify ─▶ accept ─▶ answer             (intake; within AckWithin)
//	                                                    │
//	                        dedupe check, event and deliveries in one durable step (commit, store or spool)
//	                                                    │
//	consumers ◀─POST── attempt ◀─ lease ◀───────────────┘                          (lane and courier, per destination)
//	                      └─▶ settle: delivered, retry later, or dead letter       (commit, store)
//
// A [Source] is one kind of inbound callback. Its [Verifier] values check who calls, and its [Provider] reads from the
// body which task the callback is about. From these comes an [Event] with a dedupe key, which an [Accept] stores together
// with one delivery per matching [Destination]. A [Lease] hands due deliveries to one worker, which makes one [Attempt] each
// and ends the lease with a [Settle]. Accepts, settles and leases that wait at the same time are applied as one [Batch].
//
// # Invariants
//
// Comments in this module refer to them by number, as in "(3)".
//
//  1. Answered means durable. A 2xx is sent only after the event and its deliveries are on disk (SQLite with
//     synchronous=FULL), in Redis with the configured durability, or in the spool. Killing the gateway loses nothing that
//     was answered; what a crash of Redis or the loss of a disk costs is listed in docs/operations.md.
//  2. Accepting is one atomic step: dedupe check, event, one delivery per matching destination. A callback is a duplicate
//     only if it says the same, and is answered only once the first one is durable. The event's id, key and `when` decisions are made before the first try and
//     kept through timeout, spool and drain, so that an accept whose outcome was in doubt is recognised by its own id. The
//     dedupe record outlives the event until its window, counted from the first acceptance, ends.
//  3. A lease fences. A delivery is leased to one worker, only when it can start, for its timeout plus 30 s. A settle is
//     refused if its token is no longer the current one. A slot is free again only once its settle is durable, so that a
//     crash repeats at most what was in flight or not yet settled. SQLite's leases end with the process.
//  4. The store's clock decides what is due, expired and past its retention. Clocks of different hosts are never compared,
//     and a wall clock that jumps purges nothing and forgets nothing.
//  5. Nothing polls fast and nothing sleeps blindly. A lane waits for the next due time or for a wake-up. Wake-ups between
//     gateways may be lost, so on Redis no wait exceeds 5 s.
//  6. Bulkheads. A slow, dead, paused or rate-limited destination costs the others nothing: it has a lane and a limit of
//     its own, and its backlog stays in the store. No lock of the engine is held, and no commit waits, while a log line is
//     written, a hook runs or a metric is scraped.
//  7. The answer waits for neither a consumer nor a log, and never longer than AckWithin. A callback that arrives while the
//     store is being opened waits for it within that time. If a shared store is slow or unreachable, the spool takes the
//     callback and hands it over later through the same accept, in order.
//  8. Given up is not gone. A dead letter stays until it is redriven, discarded or past its own retention, and its purge is
//     counted and logged. Retention starts at the last settle; nothing that a pending, held or dead delivery needs has a
//     time to live before.
//  9. A reload changes settings, not state. An engine belongs to its store and outlives a configuration. Deliveries of a
//     destination that left the configuration are kept as orphaned. A reload that fails leaves the previous settings active.
//  10. A stop drains: no new leases, and attempts in flight end or are released within the drain time. A spool that is not
//     empty at a stop is logged as an error.
//  11. No transaction or script touches more than [MaxTouched] deliveries, and no read holds a snapshot for longer than 2 s,
//     so that callbacks never wait behind bulk work.
//  12. A fault of the surroundings never ends the process, which serves other sites too. An error of a disk, a descriptor, a
//     database or a peer, and a panic in a step of a goroutine, is an error value: logged, shown in status and metrics,
//     answered with 503 where a sender waits, and gone once its cause is gone.
package relay
