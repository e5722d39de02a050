package chaos

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

const (
	// settleTime is how long before a fault an attempt may have been answered, and its settle not be durable yet.
	settleTime = time.Second
	// noticeTime is how much later than a gateway a consumer on a busy machine may notice that the gateway gave up.
	noticeTime = 500 * time.Millisecond
)

// stored holds what the store lists of an event.
type stored struct {
	callback
	deliveries []api.Delivery
}

// judge waits until everything has drained, and compares the ledger with the store.
func (w *world) judge(ctx context.Context) {
	w.log("draining")
	if err := w.drain(ctx); err != nil {
		w.ledger.violates("forgotten", "%v", err)
	}
	events := map[string]stored{}
	err := w.gateways[0].eachEvent(ctx, func(e api.Event) {
		events[e.ID] = stored{callback{e.Source, e.TaskID, e.Stage}, e.Deliveries}
	})
	if err != nil {
		w.ledger.violates("lost", "the events cannot be listed: %v", err)
		return
	}
	for _, g := range w.gateways {
		w.leaks(ctx, g)
	}
	w.log("judging")
	if w.tasks != nil {
		w.tasks.check(ctx, w, events)
	}
	for _, d := range w.ledger.compare(events, w.redis) {
		w.resolve(ctx, d)
	}
}

// compare records in what the ledger and the store's events violate what was promised. It returns what only a gateway can
// explain. There may be no Redis.
func (l *ledger) compare(events map[string]stored, shared *redis) (doubts []doubt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checkEvents(events, shared)
	l.checkAnswered()
	for d, requests := range l.requests {
		inOrder(requests)
		doubts = append(doubts, l.checkRepeats(d, requests)...)
		l.checkOverlaps(d, requests, shared != nil)
	}
	l.checkOrder()
	// An operation is answered without a wait for replicas: a failover may take it back.
	if !shared.failsOver() {
		l.checkReplays()
		l.checkPauses(shared != nil)
	}
	return doubts
}

// checkEvents checks that every event is settled, and that what consumers got is stored. An id that was told while a callback was in
// a spool may turn out to be that of a duplicate, and what was delivered before its sender was answered may be lost in a failover.
func (l *ledger) checkEvents(events map[string]stored, shared *redis) {
	ids := map[callback][]string{}
	for id, e := range events {
		ids[e.callback] = append(ids[e.callback], id)
		for _, d := range e.deliveries {
			if d.State != "delivered" {
				l.violatesLocked("forgotten", "event %s of %v is %s at %s after %d tries", id, e.callback, d.State, d.Destination, d.Tries)
			}
		}
	}
	for c, all := range ids {
		if len(all) > 1 {
			l.violatesLocked("split", "%v became the events %v", c, all)
		}
	}
	for id, c := range l.events {
		if _, ok := events[id]; !ok && !shared.failsOver() {
			l.violatesLocked("lost", "event %s of %v was delivered, and is not in the store", id, c)
		}
	}
	for c, told := range l.answered {
		if len(ids[c]) == 0 {
			l.violatesLocked("lost", "%v was answered by 200, as event %v, and is not in the store", c, told)
			continue
		}
		for id := range told {
			if !slices.Contains(ids[c], id) && shared == nil {
				l.violatesLocked("lost", "%v was answered by 200 as event %s, and the store has %v", c, id, ids[c])
			}
		}
	}
}

// checkAnswered checks that every callback that was answered by 200 was delivered everywhere, or given up where that is meant.
func (l *ledger) checkAnswered() {
	got := map[callback]map[string]int{} // the last status of each consumer; 200 stays
	for d, requests := range l.requests {
		c := l.events[d.event]
		if got[c] == nil {
			got[c] = map[string]int{}
		}
		for _, r := range requests {
			if got[c][d.consumer] != 200 {
				got[c][d.consumer] = r.status
			}
		}
	}
	for c, told := range l.answered {
		for _, name := range consumersOf[c.source] {
			want := 200
			if c.source == rubbishSource {
				want = 410
			}
			if got[c][name] != want {
				l.violatesLocked("lost", "%v was answered by 200, as event %v, and %s has answered %d", c, told, name, got[c][name])
			}
		}
	}
}

// inOrder sorts the requests of a delivery by their numbers. On a busy machine the driver may read the request of an attempt only
// after that of the next one: the gateway has given the first up by then.
func inOrder(requests []*request) {
	slices.SortStableFunc(requests, func(a, b *request) int {
		return cmp.Or(cmp.Compare(a.replay, b.replay), cmp.Compare(a.attempt, b.attempt))
	})
}

// doubt is a request that follows a final answer, as the next attempt.
type doubt struct {
	delivery
	before, after *request
}

// checkRepeats checks every request beyond the first of a delivery. Numbers that are left out are of attempts which did not reach
// the consumer. A number repeats only if the consumer has cut the first off, or if the gateway could not record it: a fault stands
// between the two, and when it began the first was in flight, or just answered.
func (l *ledger) checkRepeats(d delivery, requests []*request) (doubts []doubt) {
	for i, r := range requests[1:] {
		before := requests[i]
		final := before.status == http.StatusOK || before.status == http.StatusGone
		switch {
		case r.replay > before.replay, l.explained(before, r):
		case r.attempt > before.attempt && !final:
		case r.attempt >= before.attempt && before.cut:
		case r.attempt > before.attempt:
			doubts = append(doubts, doubt{d, before, r})
		default:
			l.repeats(doubt{d, before, r})
		}
	}
	return doubts
}

// repeats records a repeated request that nothing explains. The caller holds mu.
func (l *ledger) repeats(d doubt) {
	l.violatesLocked("repeated", "%s of %v at %s: attempt %d (replay %d) answered %d at %s after %s, then attempt %d (replay %d) at %s",
		d.event, l.events[d.event], d.consumer, d.before.attempt, d.before.replay, d.before.status, l.at(d.before.arrived), d.before.ended.Sub(d.before.arrived),
		d.after.attempt, d.after.replay, l.at(d.after.arrived))
}

// resolve asks the gateway why it went on after an answer that was final. It may have given up waiting before that came. A
// delivery that was discarded cannot be asked about.
func (w *world) resolve(ctx context.Context, d doubt) {
	var e api.Event
	_, err := w.gateways[0].call(ctx, http.MethodGet, api.EventPath(d.event), nil, &e)
	if err == nil && d.isExplained(e) {
		return
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.ledger.repeats(d)
}

// isExplained reports whether an event, as its gateway shows it, has the attempt before as one that nobody answered in time.
func (d doubt) isExplained(e api.Event) bool {
	for _, delivery := range e.Deliveries {
		if e.Source != movedSource && delivery.Destination != d.consumer {
			continue
		}
		for n, a := range delivery.Attempts {
			if n+1 == d.before.attempt && a.Status == 0 && a.DurationMS >= (attemptTimeout-100*time.Millisecond).Milliseconds() {
				return true
			}
		}
	}
	return len(e.Deliveries) == 0
}

// explained reports whether a fault stands between two requests, before the first of them was settled, or has ended just before: what
// it left in doubt is then stored again, with leases that take the place of those in hand.
func (l *ledger) explained(first, second *request) bool {
	unsettled := second.arrived
	if !first.ended.IsZero() {
		unsettled = l.settledBy(first.ended)
	}
	return slices.ContainsFunc(l.faults, func(f *fault) bool {
		return f.from.Before(unsettled) && f.touches(first.arrived.Add(-settleTime), second.arrived)
	})
}

// settledBy returns when an answer must be settled at the latest: a settle waits for as long as one fault follows the other, and while
// the machine is too busy.
func (l *ledger) settledBy(answered time.Time) time.Time {
	by := answered.Add(settleTime)
	for longer := true; longer; {
		longer = false
		extend := func(s span) {
			if s.to.IsZero() {
				s.to = time.Now()
			}
			if s.from.Before(by) && s.to.Add(settleTime).After(by) {
				by, longer = s.to.Add(settleTime), true
			}
		}
		for _, f := range l.faults {
			extend(f.span)
		}
		for _, gap := range l.gaps {
			extend(gap)
		}
	}
	return by
}

// checkOverlaps checks that no two requests of a delivery were under way at the same time, unless Redis's clock, by which leases
// end, was set meanwhile, or as the first was leased, which is up to a second before it comes.
func (l *ledger) checkOverlaps(d delivery, requests []*request, shared bool) {
	for i, r := range requests[1:] {
		before := requests[i]
		if l.starved(before.arrived, r.arrived.Add(noticeTime)) || l.clockSet(before.arrived.Add(-settleTime), r.arrived) {
			continue
		}
		if ended := l.endOf(before, shared); ended.IsZero() || ended.After(r.arrived.Add(noticeTime)) {
			l.violatesLocked("overlaps", "%s of %v at %s: attempt %d from %s to %s (%d), attempt %d at %s", d.event, l.events[d.event], d.consumer,
				before.attempt, l.at(before.arrived), l.at(before.ended), before.status, r.attempt, l.at(r.arrived))
		}
	}
}

// endOf returns when a request ended: zero if it never did. Where no store is shared there is one gateway, and what it has under
// way ends with it, also over a connection of which the consumer sees no end.
func (l *ledger) endOf(r *request, shared bool) time.Time {
	ended := r.ended
	for _, f := range l.faults {
		if !shared && f.kind == "kill" && f.from.After(r.arrived) && (ended.IsZero() || f.from.Before(ended)) {
			ended = f.from
		}
	}
	return ended
}

// clockSet reports whether Redis's clock was not the right one at some moment between two.
func (l *ledger) clockSet(from, to time.Time) bool {
	return slices.ContainsFunc(l.faults, func(f *fault) bool {
		return f.kind == redisClock && f.touches(from, to)
	})
}

// at returns a time as seconds since the run began.
func (l *ledger) at(t time.Time) time.Duration { return t.Sub(l.begun).Round(time.Millisecond) }

// checkOrder checks that a callback of an ordered task came only after the one before it was delivered.
func (l *ledger) checkOrder() {
	type task struct{ name, stage string }
	delivered := map[task]time.Time{}
	for d, requests := range l.requests {
		c := l.events[d.event]
		if c.source != orderedSource {
			continue
		}
		for _, r := range requests {
			if r.status == 200 {
				delivered[task{c.task, c.stage}] = r.ended
				break
			}
		}
	}
	for d, requests := range l.requests {
		c := l.events[d.event]
		n := slices.Index(stages, c.stage)
		if c.source != orderedSource || n < 1 {
			continue
		}
		before, ok := delivered[task{c.task, stages[n-1]}]
		if first := requests[0].arrived; !ok || first.Before(before) {
			l.violatesLocked("disorder", "%v came to %s at %s, and the callback before it was delivered at %s", c, d.consumer, l.at(first), l.at(before))
		}
	}
}

// checkReplays checks that every replay that was confirmed was made.
func (l *ledger) checkReplays() {
	for d, n := range l.replays {
		made := 0
		for _, r := range l.requests[d] {
			if r.status == 200 {
				made = max(made, r.replay)
			}
		}
		if made < n {
			l.violatesLocked("forgotten", "%d replays of %s to %s were confirmed, and %d made", n, d.event, d.consumer, made)
		}
	}
}

// checkPauses checks that nothing came while a destination was paused. Another gateway may have missed that on Redis, and learns
// of it within 5 s.
func (l *ledger) checkPauses(shared bool) {
	known := settleTime
	if shared {
		known += 5 * time.Second
	}
	for d, requests := range l.requests {
		for _, r := range requests {
			for _, p := range l.pauses {
				if p.consumer == d.consumer && r.arrived.After(p.from.Add(known)) && r.arrived.Before(p.to) && !l.explained(r, r) {
					l.violatesLocked("paused", "%s came to %s at %s, which was paused from %s to %s", d.event, d.consumer, l.at(r.arrived), l.at(p.from), l.at(p.to))
				}
			}
		}
	}
}
