package storetest

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var modelTests = []test{
	{"seed 1", func(b *bench) { runModel(b, 1) }},
	{"seed 2", func(b *bench) { runModel(b, 2) }},
	{"seed 3", func(b *bench) { runModel(b, 3) }},
}

const (
	modelSteps = 800
	// All that the model does happens at whole minutes of its clock, and all that it waits for ends half a minute off,
	// so that a store whose clock runs by itself agrees about what is due.
	half       = 30 * time.Second
	modelLease = time.Minute + half
	modelKeep  = 40*time.Minute + half
	modelDead  = 90*time.Minute + half
)

// model holds the same as a store must, in the plainest way.
type model struct {
	*bench
	r      *rand.Rand
	clock  time.Duration
	events []*modelEvent
	paused map[string]bool
	held   []*modelLeased // by a worker, valid or not
}

type modelEvent struct {
	*relay.Event
	accepted   time.Duration
	settled    time.Duration // last
	discarded  time.Duration // last; a store may count this as a settle
	deliveries []*modelDelivery
	duplicates int
	conflicts  []int // kinds, in the order of their coming
}

type modelDelivery struct {
	event       *modelEvent
	destination string
	ordered     bool
	state       relay.State
	due         time.Duration
	tries, used int
	replay      int
	variant     int
	attempts    int
	leased      *modelLeased
	// vague is set if the delivery may be due before its time: its lease ended by itself.
	vague  bool
	since  time.Duration // its acceptance, or its last replay
	tokens map[uint64]bool
}

type modelLeased struct {
	*relay.Leased
	delivery *modelDelivery
	expires  time.Duration
}

var modelDestinations = []string{billing, search, "third", "ordered"}

func runModel(b *bench, seed uint64) {
	m := &model{bench: b, r: rand.New(rand.NewPCG(seed, 0)), paused: map[string]bool{}}
	steps := []struct {
		weight int
		step   func()
	}{
		{22, m.accept},
		{6, m.repeat},
		{3, m.conflict},
		{3, m.doubt},
		{22, m.lease},
		{26, m.settle},
		{4, m.stale},
		{8, m.advance},
		{2, m.pause},
		{3, m.replay},
		{2, m.redrive},
		{1, m.discard},
		{1, m.expire},
		{2, m.purge},
		{1, m.reopen},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for n := range modelSteps {
		pick := m.r.IntN(total)
		for _, s := range steps {
			if pick -= s.weight; pick < 0 {
				s.step()
				break
			}
		}
		m.checkCounts()
		if n%100 == 99 {
			m.checkEvents()
		}
	}
	m.drain()
}

// lapsed reports whether a lease has ended by itself.
func (m *model) lapsed(d *modelDelivery) bool {
	return d.state == relay.StateInFlight && d.leased.expires <= m.clock
}

func (m *model) flying(d *modelDelivery) bool { return d.state == relay.StateInFlight && !m.lapsed(d) }

func unsettled(d *modelDelivery) bool {
	return d.state == relay.StatePending || d.state == relay.StateInFlight
}

// all returns the deliveries of a destination, oldest first.
func (m *model) all(destination string) iter.Seq[*modelDelivery] {
	return func(yield func(*modelDelivery) bool) {
		for _, ev := range m.events {
			for _, d := range ev.deliveries {
				if d.destination == destination && !yield(d) {
					return
				}
			}
		}
	}
}

// leasable reports whether a delivery must be leasable, or may be.
func (m *model) leasable(d *modelDelivery, probe bool) (must, may bool) {
	if d.state != relay.StatePending && !m.lapsed(d) {
		return false, false
	}
	first, alone := true, true
	if d.ordered {
		for other := range m.all(d.destination) {
			if other == d || !other.ordered || other.event.TaskID != d.event.TaskID || !unsettled(other) {
				continue
			}
			if m.flying(other) {
				return false, false
			}
			if m.lapsed(other) {
				alone = false
			} else if other.event.Seq < d.event.Seq {
				first = false
			}
		}
		if !alone {
			return false, first || m.lapsed(d) // which of the two has the turn is the store's affair
		}
		if !first {
			return false, m.lapsed(d)
		}
	}
	due := probe || d.due <= m.clock
	return due, due || d.vague || d.ordered || m.lapsed(d)
}

func (m *model) accept() {
	ev := &modelEvent{Event: newEvent(fmt.Sprintf("task-%d", m.r.IntN(12))), accepted: m.clock, settled: m.clock}
	op := &relay.Accept{Event: ev.Event, Window: window}
	for _, name := range modelDestinations {
		if m.r.IntN(2) == 0 {
			continue
		}
		d := relay.NewDelivery{Destination: name, Ordered: name == "ordered"}
		if m.r.IntN(2) == 0 {
			d.LeaseFor = modelLease
		}
		op.Deliveries = append(op.Deliveries, d)
		ev.deliveries = append(ev.deliveries, &modelDelivery{
			event: ev, destination: name, ordered: d.Ordered, state: relay.StatePending, due: m.clock, since: m.clock, tokens: map[uint64]bool{},
		})
	}
	// What is due by then may not be overtaken; a lease that has ended by itself is found by the next one who leases.
	behind := map[string]bool{}
	for _, d := range ev.deliveries {
		for other := range m.all(d.destination) {
			must, _ := m.leasable(other, false)
			behind[d.destination] = behind[d.destination] || must && !m.lapsed(other)
		}
	}
	m.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
	m.wantResult(op, relay.Accepted, ev.Event)
	m.events = append(m.events, ev)
	for _, l := range op.Leased {
		i := slices.IndexFunc(op.Deliveries, func(d relay.NewDelivery) bool { return d.Destination == l.Destination && d.LeaseFor > 0 })
		if i < 0 || m.paused[l.Destination] || behind[l.Destination] {
			m.t.Fatalf("leased to %s at accept (paused %v, behind others %v)", l.Destination, m.paused[l.Destination], behind[l.Destination])
		}
		d := ev.deliveries[i]
		if must, may := m.leasable(d, false); !must && !may {
			m.t.Fatalf("leased to %s at accept, before its turn", l.Destination)
		}
		m.take(d, l)
	}
}

// take notes a lease.
func (m *model) take(d *modelDelivery, l *relay.Leased) {
	if d.tokens[l.Token] {
		m.t.Fatal("a token comes again")
	}
	d.tokens[l.Token] = true
	body := d.event.Body
	if d.variant > 0 {
		body = conflicting(d.event.Event, d.event.conflicts[d.variant-1]).Body
	}
	age := m.clock - d.since
	if l.Event.ID != d.event.ID || l.Destination != d.destination || string(l.Event.Body) != string(body) ||
		l.Tries != d.tries || l.Used != d.used || l.Replay != d.replay || l.Age < age || l.Age > age+2*slack {
		m.t.Fatalf("leased %+v with %q; want tries %d, used %d, replay %d, age %v, %q", l, l.Event.Body, d.tries, d.used, d.replay, age, body)
	}
	d.state, d.vague = relay.StateInFlight, false
	d.leased = &modelLeased{Leased: l, delivery: d, expires: m.clock + modelLease}
	m.held = append(m.held, d.leased)
}

// some returns an event that is there, or nil.
func (m *model) some() *modelEvent {
	if len(m.events) == 0 {
		return nil
	}
	return m.events[m.r.IntN(len(m.events))]
}

func (m *model) repeat() {
	if ev := m.some(); ev != nil {
		m.wantResult(m.put(repeated(ev.Event), now(billing)), relay.Duplicate, ev.Event)
		ev.duplicates++
	}
}

func (m *model) conflict() {
	if ev := m.some(); ev != nil {
		kind := len(ev.conflicts)
		if kind == relay.MaxVariants {
			m.wantResult(m.put(conflicting(ev.Event, kind), now(billing)), relay.Unkept, ev.Event)
			return
		}
		m.wantResult(m.put(conflicting(ev.Event, kind), now(billing)), relay.Conflict, ev.Event)
		ev.conflicts = append(ev.conflicts, kind)
	}
}

func (m *model) doubt() {
	if ev := m.some(); ev != nil {
		var ds []relay.NewDelivery
		for _, d := range ev.deliveries {
			ds = append(ds, relay.NewDelivery{Destination: d.destination, Ordered: d.ordered})
		}
		m.wantResult(m.put(inDoubt(ev.Event), ds...), relay.Accepted, ev.Event)
	}
}

func (m *model) lease() {
	m.leaseFrom(modelDestinations[m.r.IntN(len(modelDestinations))], 1+m.r.IntN(4), m.r.IntN(5) == 0)
}

func (m *model) leaseFrom(destination string, most int, probe bool) int {
	op := &relay.Lease{Source: source, Destination: destination, Max: most, For: modelLease, Probe: probe}
	must := 0
	var may []*modelDelivery
	for d := range m.all(destination) {
		certain, possible := m.leasable(d, probe)
		if certain {
			must++
		}
		if possible {
			may = append(may, d)
		}
	}
	m.apply(&relay.Batch{Leases: []*relay.Lease{op}})
	if op.Paused != m.paused[destination] {
		m.t.Fatalf("paused is %v", op.Paused)
	}
	if op.Paused {
		if len(op.Leased) != 0 {
			m.t.Fatal("leased from a paused destination")
		}
		return 0
	}
	if len(op.Leased) > most || len(op.Leased) < min(must, most) {
		m.t.Fatalf("leased %d of at most %d from %s, where %d must be there and %d may", len(op.Leased), most, destination, must, len(may))
	}
	for _, l := range op.Leased {
		i := slices.IndexFunc(may, func(d *modelDelivery) bool { return d.event.ID == l.Event.ID })
		if i < 0 {
			m.t.Fatalf("leased %s from %s, which is not there to lease", l.Event.ID, destination)
		}
		d := may[i]
		may = slices.Delete(may, i, i+1)
		m.take(d, l)
	}
	m.checkNext(op)
	return len(op.Leased)
}

func (m *model) checkNext(op *relay.Lease) {
	must, may, waits := 0, 0, false
	for d := range m.all(op.Destination) {
		certain, possible := m.leasable(d, false)
		if certain {
			must++
		}
		if possible {
			may++
		}
		waits = waits || unsettled(d)
	}
	switch {
	case must > 0 && op.Next != 0, may == 0 && waits && op.Next <= 0, !waits && op.Next >= 0:
		m.t.Fatalf("next of %s is %v, where %d are due, %d may be, and anything waits: %v", op.Destination, op.Next, must, may, waits)
	}
}

// settle settles something that is held.
func (m *model) settle() {
	if len(m.held) == 0 {
		return
	}
	i := m.r.IntN(len(m.held))
	l := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	d := l.delivery
	op := relay.Settle{Leased: l.Leased, Outcome: relay.Outcome(1 + m.r.IntN(4)), Attempt: attempt(200 + m.r.IntN(300)), Used: m.r.IntN(2) == 0}
	if op.Outcome == relay.OutcomeRelease {
		op.Attempt, op.Used = nil, false
	}
	if m.r.IntN(3) > 0 {
		op.Delay = time.Duration(m.r.IntN(6))*time.Minute + half
	}
	err := m.trySettle(op)
	switch {
	case d.leased != l || d.state != relay.StateInFlight:
		if !errors.Is(err, relay.ErrLeaseLost) {
			m.t.Fatalf("a stale settle returns %v", err)
		}
		return
	case err != nil && m.lapsed(d) && errors.Is(err, relay.ErrLeaseLost):
		return // the store has taken it back already
	case err != nil:
		m.t.Fatal(err)
	}
	if op.Attempt != nil {
		d.tries++
		d.attempts++
	}
	if op.Used {
		d.used++
	}
	d.leased, d.vague = nil, false
	switch op.Outcome {
	case relay.OutcomeDelivered:
		d.state, d.event.settled = relay.StateDelivered, m.clock
	case relay.OutcomeDead:
		d.state, d.event.settled = relay.StateDead, m.clock
	case relay.OutcomeRetry:
		d.state, d.due = relay.StatePending, m.clock+op.Delay
	case relay.OutcomeRelease:
		d.state, d.due = relay.StatePending, m.clock
	}
}

// stale settles with a lease that never was.
func (m *model) stale() {
	ev := m.some()
	if ev == nil || len(ev.deliveries) == 0 {
		return
	}
	d := ev.deliveries[m.r.IntN(len(ev.deliveries))]
	token := m.r.Uint64() >> 12
	for d.tokens[token] {
		token++
	}
	l := &relay.Leased{Event: ev.Event, Destination: d.destination, Token: token}
	if err := m.trySettle(relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered}); !errors.Is(err, relay.ErrLeaseLost) {
		m.t.Fatalf("a settle with a token that never was returns %v", err)
	}
}

func (m *model) advance() { m.forward(time.Duration(1+m.r.IntN(4)) * time.Minute) }

func (m *model) forward(d time.Duration) {
	m.Advance(d)
	m.clock += d
}

func (m *model) pause() {
	d := modelDestinations[m.r.IntN(len(modelDestinations))]
	m.paused[d] = m.r.IntN(3) == 0
	m.must(m.Store.Pause(m.ctx(), source, d, m.paused[d]))
}

func (m *model) reopen() {
	m.Reopen()
	if !m.VoidsLeases {
		return
	}
	for _, ev := range m.events {
		for _, d := range ev.deliveries {
			if d.state == relay.StateInFlight {
				d.state, d.leased, d.vague = relay.StatePending, nil, true
			}
		}
	}
}

func (m *model) replay() {
	ev := m.some()
	if ev == nil {
		return
	}
	variant := m.r.IntN(len(ev.conflicts) + 1)
	var names []string
	replayed, skipped := 0, 0
	for _, name := range modelDestinations {
		if m.r.IntN(2) == 0 {
			continue
		}
		i := slices.IndexFunc(ev.deliveries, func(d *modelDelivery) bool { return d.destination == name })
		names = append(names, name)
		switch {
		case i < 0:
			replayed++
			ev.deliveries = append(ev.deliveries, &modelDelivery{
				event: ev, destination: name, state: relay.StatePending, due: m.clock, since: m.clock, replay: 1, variant: variant, tokens: map[uint64]bool{},
			})
		case unsettled(ev.deliveries[i]):
			skipped++
		default:
			replayed++
			m.again(ev.deliveries[i], variant)
		}
	}
	m.bench.replay(ev.Event, variant, replayed, skipped, names...)
}

// again makes a settled delivery pending.
func (m *model) again(d *modelDelivery, variant int) {
	d.state, d.due, d.since, d.used, d.variant, d.vague = relay.StatePending, m.clock, m.clock, 0, variant, false
	d.replay++
}

func (m *model) redrive() {
	sel := m.selection()
	want := 0
	for _, name := range modelDestinations {
		for d := range m.all(name) {
			if d.state == relay.StateDead && (sel.Destination == "" || sel.Destination == name) {
				m.again(d, d.variant)
				want++
			}
		}
	}
	if n := m.bench.redrive(sel); n != want {
		m.t.Fatalf("redrove %d, want %d", n, want)
	}
}

func (m *model) selection() relay.Selection {
	sel := relay.Selection{Source: source}
	if m.r.IntN(3) > 0 {
		sel.Destination = modelDestinations[m.r.IntN(len(modelDestinations))]
	}
	return sel
}

func (m *model) discard() {
	sel := m.selection()
	sel.Orphaned = sel.Destination != "" && m.r.IntN(3) == 0
	want := 0
	for _, ev := range m.events {
		ev.deliveries = slices.DeleteFunc(ev.deliveries, func(d *modelDelivery) bool {
			chosen := (sel.Destination == "" || d.destination == sel.Destination) &&
				(d.state == relay.StateDead || sel.Orphaned && unsettled(d) && !m.flying(d))
			if chosen {
				want++
				ev.discarded = m.clock
				d.state = ""
			}
			return chosen
		})
	}
	if n := m.bench.discard(sel); n != want {
		m.t.Fatalf("discarded %d by %+v, want %d", n, sel, want)
	}
}

func (m *model) expire() {
	age := time.Duration(20+m.r.IntN(30))*time.Minute + half
	want := 0
	for d := range m.all(billing) {
		if unsettled(d) && !m.flying(d) && m.clock-d.since > age {
			d.state, d.leased, d.event.settled = relay.StateDead, nil, m.clock
			want++
		}
	}
	if n := len(m.bench.expire(age)); n != want {
		m.t.Fatalf("expired %d, want %d", n, want)
	}
}

func (m *model) purge() {
	purged := m.bench.purge(policy(modelKeep, modelDead)).Events
	m.events = slices.DeleteFunc(m.events, func(ev *modelEvent) bool {
		keep, pending := modelKeep, false
		for _, d := range ev.deliveries {
			pending = pending || unsettled(d)
			if d.state == relay.StateDead {
				keep = modelDead
			}
		}
		gone := m.gone(ev.Event)
		switch {
		case pending && gone:
			m.t.Fatalf("purged %s, which is pending", ev.ID)
		case gone && m.clock < ev.accepted+keep:
			m.t.Fatalf("purged %s before its time", ev.ID)
		case gone && ev.discarded == 0 && m.clock < ev.settled+keep:
			m.t.Fatalf("purged %s before its time", ev.ID)
		}
		if gone {
			purged--
		}
		return gone
	})
	if purged != 0 {
		m.t.Fatalf("purged %d more than are gone", purged)
	}
}

func (m *model) checkCounts() {
	m.t.Helper()
	for _, name := range modelDestinations {
		var open, flying, lapsed, delivered, dead int64
		for d := range m.all(name) {
			switch {
			case d.state == relay.StateDelivered:
				delivered++
			case d.state == relay.StateDead:
				dead++
			case m.flying(d):
				open, flying = open+1, flying+1
			case m.lapsed(d):
				open, lapsed = open+1, lapsed+1
			default:
				open++
			}
		}
		c := m.count(name)
		if c.Pending+c.InFlight != open || c.InFlight < flying || c.InFlight > flying+lapsed || c.Delivered != delivered || c.Dead != dead ||
			c.Paused != m.paused[name] {
			m.t.Fatalf("%+v; want %d open with %d to %d in flight, %d delivered, %d dead", c, open, flying, flying+lapsed, delivered, dead)
		}
	}
}

func (m *model) checkEvents() {
	m.t.Helper()
	for _, ev := range m.events {
		r := m.record(ev.Event)
		if r.Duplicates != ev.duplicates || r.Conflicts != len(ev.conflicts) || len(r.Variants) != len(ev.conflicts) ||
			len(r.Deliveries) != len(ev.deliveries) || string(r.Body) != string(ev.Body) {
			m.t.Fatalf("read %+v", r)
		}
		for _, d := range ev.deliveries {
			got := m.deliveryOf(r, d.destination)
			state := got.State
			if m.lapsed(d) && state == relay.StatePending {
				state = relay.StateInFlight
			}
			if state != d.state || got.Tries != d.tries || got.Replay != d.replay || got.Variant != d.variant || len(got.Attempts) != d.attempts {
				m.t.Fatalf("read %+v; want %s, %d tries, %d attempts, replay %d, variant %d", got, d.state, d.tries, d.attempts, d.replay, d.variant)
			}
		}
	}
	if n := len(m.bench.events(relay.EventFilter{Source: source}, nil)); n != len(m.events) {
		m.t.Fatalf("%d events are listed, want %d", n, len(m.events))
	}
	dead := 0
	for _, name := range modelDestinations {
		for d := range m.all(name) {
			if d.state == relay.StateDead {
				dead++
			}
		}
	}
	if n := len(m.letters(relay.Selection{Source: source})); n != dead {
		m.t.Fatalf("%d dead letters are listed, want %d", n, dead)
	}
}

// drain delivers all that is left: nothing was lost on the way.
func (m *model) drain() {
	for _, name := range modelDestinations {
		m.paused[name] = false
		m.must(m.Store.Pause(m.ctx(), source, name, false))
	}
	m.held = nil
	m.forward(20 * time.Minute)
	for _, name := range modelDestinations {
		for m.leaseFrom(name, 10, false) > 0 {
			for _, l := range m.held {
				m.settleAll(relay.OutcomeDelivered, l.Leased)
				d := l.delivery
				d.state, d.leased, d.event.settled = relay.StateDelivered, nil, m.clock
				d.tries++
				d.attempts++
				d.used++
			}
			m.held = nil
		}
		for d := range m.all(name) {
			if unsettled(d) {
				m.t.Errorf("event %s is never delivered to %s", d.event.ID, name)
			}
		}
	}
	m.checkCounts()
	m.checkEvents()
	m.forward(modelDead + window)
	m.purge()
	if len(m.events) != 0 {
		m.t.Errorf("%d events are never purged", len(m.events))
	}
	m.checkCounts()
}
