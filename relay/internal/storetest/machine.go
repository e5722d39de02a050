package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Model tries random sequences of operations on a store and on a model of it, and looks after each whether the store
// shows what the model has. What fails is made as short as it gets. -rapid.checks sets how many sequences there are, and
// -rapid.steps how long they are on average.
func Model(t *testing.T, open func(t T) *Harness) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{T: r, Harness: open(r)}
		m.model = newModel(r, m.Harness)
		m.nodes = []relay.Store{m.Store}
		if m.Another != nil {
			m.nodes = append(m.nodes, m.Another())
		}
		if m.Refresh != nil { // what one client does, another one may count only after that one's next look
			m.must(m.Store.Pause(m.Context(), source, billing, false))
			m.Refresh(m.Store)
		}
		r.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {
				if m.Refresh == nil { // else it takes its time
					m.lookAtCounts(m.nodes[0])
				}
			},
			"step": func(*rapid.T) { m.step() },
		})
		m.drain()
	})
}

// machine draws operations and does them, on the store and on the model.
type machine struct {
	*rapid.T
	*Harness
	model *model
	nodes []relay.Store
	polls []*relay.LeasedTask // all that ever were
	made  int                 // events
}

const (
	inOrder = "ordered" // the destination that keeps the order of a task
	archive = relay.ArchiveName
)

var modelDestinations = []string{billing, search, inOrder, archive, renamed}

func (m *machine) step() {
	steps := []struct {
		weight int
		name   string
		do     func()
	}{
		{8, "accept", func() { m.apply(0, 1, 0) }},
		{10, "lease", func() { m.apply(0, 0, 1) }},
		{12, "settle", func() { m.apply(1, 0, 0) }},
		{4, "batch", func() { m.apply(m.upTo("settles", 4), m.upTo("accepts", 2), m.upTo("leases", 2)) }},
		{6, "advance", m.advance},
		{2, "pause", m.pause},
		{3, "replay", m.replay},
		{2, "replay all", m.replayAll},
		{2, "redrive", m.redrive},
		{2, "discard", m.discard},
		{2, "expire", m.expire},
		{2, "reassign", m.reassign},
		{3, "purge", m.purge},
		{2, "reopen", m.reopen},
		{8, "look", m.look},
		{1, "list", m.list},
		{2, "expect", m.expect},
		{2, "lease tasks", m.leaseTasks},
		{2, "settle task", m.settleTask},
	}
	var names []string
	for _, s := range steps {
		names = append(names, slices.Repeat([]string{s.name}, s.weight)...)
	}
	name := rapid.SampledFrom(names).Draw(m.T, "step")
	for _, s := range steps {
		if s.name == name {
			s.do()
		}
	}
}

// upTo draws a number from 0.
func (m *machine) upTo(what string, most int) int { return rapid.IntRange(0, most).Draw(m.T, what) }

// rarely draws whether to do what is seldom done.
func (m *machine) rarely(what string, oneOf int) bool { return m.upTo(what, oneOf-1) == oneOf-1 }

func (m *machine) destination(what string) string {
	return rapid.SampledFrom(append([]string{billing, billing, inOrder}, modelDestinations...)).Draw(m.T, what)
}

// node draws the client that an operation goes to.
func (m *machine) node() relay.Store {
	if len(m.nodes) == 1 {
		return m.nodes[0]
	}
	return m.nodes[m.upTo("node", len(m.nodes)-1)]
}

// some draws an event that is there, if there is one.
func (m *machine) some() *modelEvent {
	if len(m.model.events) == 0 {
		return nil
	}
	return m.model.events[m.upTo("event", len(m.model.events)-1)]
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.model.fail("%v", err)
	}
}

// apply draws a batch, applies it, and follows its operations in the order in which they are done.
func (m *machine) apply(settles, accepts, leases int) {
	b := &relay.Batch{}
	var held []*modelLease
	for range settles {
		if l := m.lease(); l != nil {
			held, b.Settles = append(held, l), append(b.Settles, m.newSettle(l))
		}
	}
	for range accepts {
		b.Accepts = append(b.Accepts, m.newAccept(b.Accepts))
	}
	for range leases {
		op := &relay.Lease{Source: source, Destination: m.destination("of"), Max: 1 + m.upTo("most", 3), For: modelTerm, Probe: m.rarely("probe", 5)}
		if !slices.ContainsFunc(b.Leases, func(other *relay.Lease) bool { return other.Destination == op.Destination }) { // which of two is first is open
			b.Leases = append(b.Leases, op)
		}
	}
	m.node().Apply(m.Context(), b)
	for i, op := range b.Settles {
		m.Logf("settle of %s: outcome %d after %v: %v", held[i].delivery.name(), op.Outcome, op.Delay, op.Err)
		m.model.settled(op, held[i])
	}
	for _, op := range b.Accepts {
		m.Logf("accept of %s: %s: result %d, leased %d", op.Event.ID, described(op), op.Result, len(op.Leased))
		m.model.accepted(op)
	}
	for _, op := range b.Leases {
		m.Logf("lease of %s: %v, next %v", op.Destination, eventsOf(op.Leased), op.Next)
		m.model.leased(op)
	}
	for _, op := range b.Leases {
		m.model.next(op)
	}
}

func eventsOf(leased []*relay.Leased) (ids []string) {
	for _, l := range leased {
		ids = append(ids, l.Event.ID)
	}
	return ids
}

func described(op *relay.Accept) string {
	said := []string{fmt.Sprintf("task %s, key %x, fingerprint %x", op.Event.TaskID, op.Event.Key[:2], op.Event.Fingerprint[:2])}
	if op.Ends != relay.NotEnding {
		said = append(said, fmt.Sprintf("%s ending %d", op.Event.Origin, op.Ends))
	}
	if op.Again {
		said = append(said, "again")
	}
	if op.Separate {
		said = append(said, "separate")
	}
	for _, d := range op.Deliveries {
		to := "to " + d.Destination
		if d.LeaseFor > 0 {
			to += " leased"
		}
		if d.Behind != "" {
			to += " behind " + d.Behind
		}
		said = append(said, to)
	}
	return strings.Join(said, ", ")
}

// newAccept draws an accept: of a new event, or of one that is known or in the same batch.
func (m *machine) newAccept(batch []*relay.Accept) *relay.Accept {
	op := &relay.Accept{Window: modelWindow, Separate: m.rarely("separate", 4)}
	like := rapid.SampledFrom([]string{"new", "new", "new", "repeated", "conflicting", "in doubt"}).Draw(m.T, "event")
	known := slices.Concat(batch, m.model.sent)
	if len(known) == 0 {
		like = "new"
	}
	m.made++
	id := fmt.Sprintf("01KB%d%021d", m.made*7%10, m.made)
	if like == "new" {
		op.Event = &relay.Event{
			ID: id, Source: source, TaskID: m.someTask(), Stage: rapid.SampledFrom([]string{"first", "complete"}).Draw(m.T, "stage"), Code: "200",
			Key: sha256.Sum256([]byte(id)), Fingerprint: sha256.Sum256([]byte("first")), Origin: relay.OriginCallback,
			ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Headers: relay.Headers{"x-number": id}, Body: []byte(id),
		}
	} else {
		before := known[m.upTo("known", len(known)-1)]
		again := *before.Event
		again.Seq = 0
		op.Event = &again
		switch like {
		case "repeated":
			again.ID = id
		case "conflicting":
			again.ID = id
			kind := fmt.Sprint("kind ", m.upTo("kind", 2))
			again.Fingerprint, again.Body, again.Headers = sha256.Sum256([]byte(kind)), []byte(kind), relay.Headers{"x-kind": kind}
		case "in doubt":
			op.Again, op.Separate, op.Ends, op.Deliveries = m.rarely("again", 2), before.Separate, before.Ends, slices.Clone(before.Deliveries)
			for i := range op.Deliveries {
				op.Deliveries[i].LeaseFor = time.Duration(m.upTo("leased", 1)) * modelTerm
			}
			return op
		}
	}
	if op.Event.Stage == "complete" {
		op.Ends = rapid.SampledFrom([]relay.Ending{relay.NotEnding, relay.EndingSuccess, relay.EndingFailure}).Draw(m.T, "ends")
		if op.Event.Origin = relay.OriginCallback; op.Ends != relay.NotEnding && m.rarely("recovered", 3) {
			op.Event.Origin = relay.OriginRecovered
		}
	}
	for _, name := range []string{billing, search, inOrder, archive} {
		wish := rapid.SampledFrom([]string{"", "", "pending", "leased"}).Draw(m.T, "to "+name)
		if wish == "" {
			continue
		}
		d := relay.NewDelivery{Destination: name, Ordered: name == inOrder}
		if wish == "leased" {
			d.LeaseFor = modelTerm
		}
		if name != archive && m.rarely("behind", 3) {
			d.Behind = archive
		}
		op.Deliveries = append(op.Deliveries, d)
	}
	return op
}

// lease draws a lease, most often one that is current, and at times one whose delivery has been leased anew; nil if there
// never was one.
func (m *machine) lease() *modelLease {
	all := m.model.leases
	like := rapid.SampledFrom([]string{"current", "current", "current", "superseded", "any"}).Draw(m.T, "lease")
	some := slices.DeleteFunc(slices.Clone(all), func(l *modelLease) bool {
		now := l.delivery.lease
		return like == "current" && now != l || like == "superseded" && (now == nil || now == l)
	})
	if len(some) == 0 {
		some = all
	}
	if len(some) == 0 {
		return nil
	}
	return some[m.upTo("lease", len(some)-1)]
}

func (m *machine) newSettle(l *modelLease) *relay.Settle {
	op := &relay.Settle{Leased: l.Leased, Outcome: relay.Outcome(1 + m.upTo("outcome", 3))}
	if op.Outcome == relay.OutcomeRelease {
		return op
	}
	if op.Outcome == relay.OutcomeRetry {
		op.Delay = m.delay("delay")
	}
	op.Used = m.rarely("used", 2)
	if !m.rarely("no attempt", 5) {
		op.Attempt = attempt(200 + 100*m.upTo("status", 3))
	}
	if op.Outcome == relay.OutcomeDead && m.rarely("reason", 3) {
		op.Reason = "given up"
	}
	if l.Destination == archive && m.rarely("files", 2) {
		op.Files = []relay.File{file(fmt.Sprint("f", m.upTo("field", 2)), int64(m.upTo("number", 9)))}
	}
	return op
}

// delay draws nothing, or some minutes and a half.
func (m *machine) delay(what string) time.Duration {
	if n := m.upTo(what, 5); n > 0 {
		return time.Duration(n-1)*time.Minute + half
	}
	return 0
}

func (m *machine) advance() {
	d := time.Duration(rapid.SampledFrom([]int{2, 2, 2, 1, 5, 9, 13, 25}).Draw(m.T, "minutes")) * time.Minute
	m.forward(d)
}

func (m *machine) forward(d time.Duration) {
	m.Logf("%v pass", d)
	m.Advance(d)
	m.model.clock += d
}

func (m *machine) reopen() {
	if n := m.upTo("node", len(m.nodes)-1); n > 0 {
		m.Logf("node %d reopens", n)
		m.must(m.nodes[n].Close())
		m.nodes[n] = m.Another()
		return
	}
	m.Logf("the store reopens")
	m.Reopen()
	m.nodes[0] = m.Store
	m.model.reopened()
}

// lookAtCounts compares what a client counts with the model.
func (m *machine) lookAtCounts(s relay.Store) {
	if m.Refresh != nil {
		m.Refresh(s)
	}
	counts := s.Counts()
	for _, name := range modelDestinations {
		i := slices.IndexFunc(counts, func(c relay.Count) bool { return c.Destination == name })
		if i < 0 {
			counts, i = append(counts, relay.Count{}), len(counts)
		}
		m.model.shownCount(name, counts[i])
	}
	m.lookAtTaskCounts(s)
}

// look compares all else that the store shows with the model. It takes its time, and is a step of its own.
func (m *machine) look() {
	b := &bench{Harness: &Harness{Store: m.node()}, t: m.T}
	m.lookAtCounts(b.Store)
	for _, ev := range m.model.events {
		m.model.shownEvent(b.record(ev.Event), true)
	}
	m.model.shownList(relay.EventFilter{}, b.events(relay.EventFilter{}, nil))
	m.model.shownLetters(relay.Selection{}, b.letters(relay.Selection{}))
	m.lookAtTasks(b.Store)
}

// drain delivers all that is left, since nothing may be lost on the way, and has all of it purged.
func (m *machine) drain() {
	for _, name := range modelDestinations {
		m.must(m.nodes[0].Pause(m.Context(), source, name, false))
		m.model.paused[name] = false
	}
	m.forward(2 * time.Hour) // what was redriven or replayed may come one a minute
	for _, name := range append([]string{archive}, modelDestinations...) {
		for range mostPages {
			lease := &relay.Lease{Source: source, Destination: name, Max: 10, For: modelTerm}
			m.nodes[0].Apply(m.Context(), &relay.Batch{Leases: []*relay.Lease{lease}})
			m.model.leased(lease)
			m.model.next(lease)
			if len(lease.Leased) == 0 && lease.Next != 0 {
				break
			}
			for _, l := range lease.Leased {
				op := &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: attempt(200)}
				m.nodes[0].Apply(m.Context(), &relay.Batch{Settles: []*relay.Settle{op}})
				m.model.settled(op, m.model.event(l.Event.ID).to(name).lease)
			}
		}
		for d := range m.model.all(name) {
			if d.unsettled() {
				m.model.fail("%s is never delivered", d.name())
			}
		}
	}
	m.look()
	m.forward(3 * modelDead.Round(time.Minute))
	m.purge()
	if n := len(m.model.events); n > 0 {
		m.model.fail("%d events are never purged", n)
	}
	m.look()
}

// gone reports whether the store has an event no more.
func (m *machine) gone(ev *modelEvent) bool {
	_, err := m.nodes[0].Event(m.Context(), ev.ID)
	if err != nil && !errors.Is(err, relay.ErrNotFound) {
		m.model.fail("%v", err)
	}
	return err != nil
}
