package storetest

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// All that happens in the model happens at whole minutes of its clock, and all that it waits for ends half a minute off,
// so that a store whose clock runs by itself agrees about what is due.
const (
	half        = 30 * time.Second
	modelTerm   = time.Minute + half
	modelWindow = 12*time.Minute + half
	modelKeep   = 8*time.Minute + half
	modelDead   = 20*time.Minute + half
)

// model specifies what a store must hold, in the plainest way: it is told of each operation that was done with what the store
// answered, ends the test if the store must not answer so, and goes on from there. Where the contract leaves something
// open it follows the store.
type model struct {
	t      T
	voids  bool // leases end with the process
	shared bool // there are several clients
	parted bool // only the events of a task keep an order among them
	clock  time.Duration
	events []*modelEvent   // those that are there, oldest first
	sent   []*relay.Accept // of events, also of those that are gone by now
	keys   map[[32]byte]modelKey
	paused map[string]bool
	tasks  []*modelTask    // oldest first
	polled time.Duration   // when a task was last leased
	leases []*modelLease   // all that ever were
	tokens map[string]bool // of all deliveries, by name
}

// modelKey holds the event that a dedupe key stands for.
type modelKey struct {
	first *modelEvent
	since time.Duration
}

type modelEvent struct {
	*relay.Event
	accepted   time.Duration
	settled    time.Duration // last
	discarded  time.Duration // last; a store may count this as a settle
	gone       bool
	deliveries []*modelDelivery
	duplicates int
	conflicts  int
	variants   []*relay.Event
	files      []relay.File
}

type modelDelivery struct {
	event       *modelEvent
	destination string
	ordered     bool
	behind      string // the destination of the delivery that this one waits for
	wasBehind   bool   // so that it is leased with the event's files
	state       relay.State
	due         time.Duration
	voided      bool          // it may be due before that, since its lease ended by itself
	fresh       bool          // it has been due since its acceptance, and was never leased
	retried     bool          // it waits for the delay of a retry
	since       time.Duration // its acceptance, or its last replay
	settled     time.Duration
	used        int
	replay      int
	variant     int
	reason      string
	deadAt      time.Time // as the store shows it
	tries       int
	attempts    []relay.Attempt
	lease       *modelLease // while it is in flight
	last        *modelLease // whether or not it has ended
}

type modelLease struct {
	*relay.Leased
	delivery *modelDelivery
	expires  time.Duration
	atAccept bool
	settled  bool // a settle of it was taken
}

func newModel(t T, h *Harness) *model {
	return &model{t: t, voids: h.VoidsLeases, shared: h.Another != nil, parted: h.Parted, polled: -time.Hour, keys: map[[32]byte]modelKey{}, paused: map[string]bool{}, tokens: map[string]bool{}}
}

// fail ends the test. What it says is in the log alone: rapid takes a sequence for shorter only if it fails by the very same
// words, and tokens and times differ from run to run.
func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Logf(format, args...)
	m.t.Fatal("the store does not do as its model")
}

// together reports whether two events keep an order among them.
func (m *model) together(a, b *modelEvent) bool { return !m.parted || a.TaskID == b.TaskID }

// event returns the event of an id, if it is there.
func (m *model) event(id string) *modelEvent {
	for _, ev := range m.events {
		if ev.ID == id {
			return ev
		}
	}
	return nil
}

// to returns the event's delivery to a destination, if there is one.
func (ev *modelEvent) to(destination string) *modelDelivery {
	for _, d := range ev.deliveries {
		if d.destination == destination {
			return d
		}
	}
	return nil
}

func (d *modelDelivery) name() string { return d.event.ID + " to " + d.destination }

// all returns the deliveries of a destination, oldest event first.
func (m *model) all(destination string) iter.Seq[*modelDelivery] {
	return func(yield func(*modelDelivery) bool) {
		for _, ev := range m.events {
			if d := ev.to(destination); d != nil && !yield(d) {
				return
			}
		}
	}
}

// lapsed reports whether a lease has ended by itself. The store may have taken the delivery back, or not yet.
func (m *model) lapsed(d *modelDelivery) bool {
	return d.state == relay.StateInFlight && d.lease.expires <= m.clock
}

// adrift reports whether a delivery's lease has ended by itself, and nobody has leased it since.
func (m *model) adrift(d *modelDelivery) bool { return d.voided || m.lapsed(d) }

func (m *model) flying(d *modelDelivery) bool { return d.state == relay.StateInFlight && !m.lapsed(d) }

func (d *modelDelivery) unsettled() bool {
	return d.state == relay.StatePending || d.state == relay.StateInFlight
}

// plain reports whether nothing but its due time decides when a delivery is leased.
func (m *model) plain(d *modelDelivery) bool {
	return d.state == relay.StatePending && !d.voided && !d.ordered && d.behind == ""
}

// leasable reports whether a delivery must be leasable, or may be.
func (m *model) leasable(d *modelDelivery, probe bool) (must, may bool) {
	if d.state != relay.StatePending && !m.lapsed(d) || d.behind != "" {
		return false, false
	}
	due := probe || d.due <= m.clock
	first, alone := true, true
	for other := range m.chain(d) {
		if m.flying(other) {
			return false, false // never two at a time
		}
		if m.adrift(other) {
			alone = false
		} else if other.event.Seq < d.event.Seq {
			first = false
		}
	}
	switch {
	case !alone:
		return false, first || m.adrift(d) // which of the two has the turn is the store's affair
	case !first:
		return false, m.adrift(d)
	}
	// A delivery that has waited for its turn may be due as it gets it.
	return due, due || m.adrift(d) || d.ordered
}

// chain returns the other unsettled deliveries of a delivery's destination and task, if they keep an order.
func (m *model) chain(d *modelDelivery) iter.Seq[*modelDelivery] {
	return func(yield func(*modelDelivery) bool) {
		if !d.ordered {
			return
		}
		for other := range m.all(d.destination) {
			if other != d && other.ordered && other.event.TaskID == d.event.TaskID && other.unsettled() && !yield(other) {
				return
			}
		}
	}
}

// remembered returns what a key stands for.
func (m *model) remembered(key [32]byte) *modelEvent {
	if k, ok := m.keys[key]; ok && m.clock-k.since < modelWindow {
		return k.first
	}
	return nil
}

// judge returns what must become of an accept: its result, and the event that has its key, nil if that is to be made. An
// event that is made beside another one has that in `beside`.
func (m *model) judge(op *relay.Accept) (result relay.Result, first, beside *modelEvent) {
	ev := op.Event
	if m.unexpected(op) {
		return relay.Unexpected, nil, nil
	}
	if first = m.event(ev.ID); first != nil {
		return relay.Accepted, first, nil
	}
	separate := op.Separate
	if first = m.recovered(op); first != nil {
		separate = false
	}
	if separate {
		first = m.remembered(ev.SeparateKey())
	}
	if first == nil {
		first = m.remembered(ev.Key)
	}
	switch {
	case first == nil || first.ID == ev.ID:
		return relay.Accepted, first, nil
	case first.Fingerprint == ev.Fingerprint:
		return relay.Duplicate, first, nil
	case separate:
		return relay.Accepted, nil, first
	case first.gone:
		return relay.Unkept, first, nil
	}
	known := slices.ContainsFunc(first.variants, func(v *relay.Event) bool { return v.Fingerprint == ev.Fingerprint })
	if !known && len(first.variants) == relay.MaxVariants {
		return relay.Unkept, first, nil
	}
	return relay.Conflict, first, nil
}

// accepted follows an accept.
func (m *model) accepted(op *relay.Accept) {
	m.t.Helper()
	result, first, beside := m.judge(op)
	id := op.Event.ID
	if first != nil {
		id = first.ID
	}
	if result == relay.Unexpected {
		id = ""
	}
	if op.Err != nil || op.Result != result || op.FirstID != id {
		m.fail("accept of %s: result %d, first %s, %v; want %d, %s", op.Event.ID, op.Result, op.FirstID, op.Err, result, id)
	}
	defer m.ends(op)
	switch {
	case result == relay.Duplicate:
		first.duplicates++
	case result == relay.Conflict:
		first.conflicts++
		if !slices.ContainsFunc(first.variants, func(v *relay.Event) bool { return v.Fingerprint == op.Event.Fingerprint }) {
			first.variants = append(first.variants, op.Event)
		}
	case result == relay.Accepted && first == nil:
		m.add(op, beside)
		return
	case result == relay.Accepted && !first.gone:
		if op.Event.Seq != first.Seq {
			m.fail("%s is tried again and has the number %d, had %d", id, op.Event.Seq, first.Seq)
		}
		m.takenOver(op, first)
		return
	}
	if len(op.Leased) > 0 {
		m.fail("leased %d of an accept with the result %d", len(op.Leased), result)
	}
}

// add follows an accept that has made an event.
func (m *model) add(op *relay.Accept, beside *modelEvent) {
	m.t.Helper()
	stored, key, with := *op.Event, op.Event.Key, ""
	if beside != nil {
		stored, key, with = *op.Event.Separated(beside.ID), op.Event.SeparateKey(), beside.ID
		beside.conflicts++
	}
	if op.ConflictWith != with {
		m.fail("accepted beside %q, want %q", op.ConflictWith, with)
	}
	ev := &modelEvent{Event: &stored, accepted: m.clock, settled: m.clock}
	for _, other := range m.events {
		if m.together(ev, other) && ev.Seq <= other.Seq {
			m.fail("%s has the number %d, which does not ascend", ev.ID, ev.Seq)
		}
	}
	m.events, m.sent = append(m.events, ev), append(m.sent, op)
	m.keys[key] = modelKey{ev, m.clock}
	leased := slices.Clone(op.Leased)
	for i := range op.Deliveries {
		n := &op.Deliveries[i]
		d := &modelDelivery{
			event: ev, destination: n.Destination, ordered: n.Ordered, behind: op.Awaited(n), state: relay.StatePending, due: m.clock, since: m.clock,
		}
		d.wasBehind = d.behind != ""
		d.fresh = !d.wasBehind
		// What is due by then may not be overtaken; a lease that has ended by itself is found by the next one who leases.
		overtakes := ""
		for other := range m.all(d.destination) {
			if must, _ := m.leasable(other, false); must && !m.lapsed(other) && m.together(ev, other.event) {
				overtakes = other.event.ID
			}
		}
		ev.deliveries = append(ev.deliveries, d)
		k := slices.IndexFunc(leased, func(l *relay.Leased) bool { return l.Destination == d.destination })
		if k < 0 {
			continue
		}
		if _, may := m.leasable(d, false); n.LeaseFor == 0 || m.paused[d.destination] || overtakes != "" || !may {
			m.fail("leased %s at accept, which it must not: paused %v, due before it %q", d.name(), m.paused[d.destination], overtakes)
		}
		m.take(d, leased[k], true)
		leased = slices.Delete(leased, k, k+1)
	}
	if len(leased) > 0 {
		m.fail("leased to %s at accept, which has no delivery", leased[0].Destination)
	}
}

// takenOver follows an accept of an event that is there: of its leases those that another try had carried.
func (m *model) takenOver(op *relay.Accept, ev *modelEvent) {
	m.t.Helper()
	leased := slices.Clone(op.Leased)
	for i := range op.Deliveries {
		n := &op.Deliveries[i]
		d := ev.to(n.Destination)
		if d == nil || !op.Again || d.state != relay.StateInFlight || !d.lease.atAccept {
			continue
		}
		k := slices.IndexFunc(leased, func(l *relay.Leased) bool { return l.Destination == d.destination })
		switch {
		case k >= 0 && n.LeaseFor > 0 && !m.paused[d.destination]:
			d.state = relay.StatePending
			m.take(d, leased[k], true)
			leased = slices.Delete(leased, k, k+1)
		case k >= 0:
			m.fail("took %s over, which it must not", d.name())
		case m.voids || m.lapsed(d):
		case n.LeaseFor > 0 && !m.paused[d.destination]:
			m.fail("did not take %s over", d.name())
		default:
			d.state, d.lease, d.last, d.due = relay.StatePending, nil, nil, m.clock
		}
	}
	if len(leased) > 0 {
		m.fail("leased %s to %s, which no earlier try of the accept had leased", ev.ID, leased[0].Destination)
	}
}

// take notes a lease.
func (m *model) take(d *modelDelivery, l *relay.Leased, atAccept bool) {
	m.t.Helper()
	token := fmt.Sprint(d.name(), " ", l.Token)
	if m.tokens[token] || l.Token == 0 {
		m.fail("the token of %s comes again", token)
	}
	m.tokens[token] = true
	want := d.event.Event
	if d.variant > 0 {
		want = d.event.variants[d.variant-1]
	}
	age := max(0, m.clock-d.since)
	if l.Event.ID != d.event.ID || string(l.Event.Body) != string(want.Body) || !maps.Equal(l.Event.Headers, want.Headers) ||
		l.Tries != d.tries || l.Used != d.used || l.Replay != d.replay || l.Age > age+2*slack || l.Age < age {
		m.fail("leased %+v with %q %v; want tries %d, used %d, replay %d, age %v, %q %v",
			l, l.Event.Body, l.Event.Headers, d.tries, d.used, d.replay, age, want.Body, want.Headers)
	}
	d.lease = &modelLease{Leased: l, delivery: d, expires: m.clock + modelTerm, atAccept: atAccept}
	d.state, d.voided, d.fresh, d.retried, d.last = relay.StateInFlight, false, false, false, d.lease
	m.leases = append(m.leases, d.lease)
}
