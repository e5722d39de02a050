package storetest

import (
	"time"

	"pgregory.net/rapid"

	"github.com/callbackrelay/caddy-relay/relay"
)

const quarter = half / 2

func (m *machine) pause() {
	name, paused := m.destination("of"), m.rarely("paused", 2)
	m.Logf("pause %s: %v", name, paused)
	m.must(m.node().Pause(m.Context(), source, name, paused))
	m.model.paused[name] = paused
}

func (m *machine) replay() {
	ev := m.some()
	if ev == nil {
		return
	}
	variant := m.upTo("variant", len(ev.variants))
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(modelDestinations), 1, 3, rapid.ID).Draw(m.T, "to")
	replayed, skipped, err := m.node().Replay(m.Context(), ev.ID, names, variant)
	m.Logf("replay of %s to %v, variant %d: %d, skipped %d, %v", ev.ID, names, variant, replayed, skipped, err)
	m.must(err)
	n := 0
	for _, name := range names {
		if m.model.replay(ev, name, variant, relay.Pace{}, 0) {
			n++
		}
	}
	m.model.wanted("replayed", replayed, n)
	m.model.wanted("skipped", skipped, len(names)-n)
}

func (m *machine) pace() relay.Pace {
	p := relay.Pace{After: m.delay("after")}
	if m.rarely("every", 3) {
		p.Every = time.Minute
	}
	if m.rarely("asked", 3) {
		p.Asked = time.Duration(1+m.upTo("asked ago", 9))*time.Minute + quarter
	}
	return p
}

func (m *machine) replayAll() {
	if len(m.model.events) == 0 {
		return
	}
	var names []relay.DeliveryName
	p, to, n := m.pace(), m.destination("to"), 0
	for range 1 + m.upTo("more", 2) {
		names = append(names, relay.DeliveryName{EventID: m.some().ID, Destination: to})
	}
	replayed, skipped, err := m.node().ReplayAll(m.Context(), source, names, p)
	m.Logf("replay of %v by %+v: %d, skipped %d, %v", names, p, replayed, skipped, err)
	m.must(err)
	for i, name := range names {
		if m.model.replay(m.model.event(name.EventID), to, 0, p, i) {
			n++
		}
	}
	m.model.wanted("replayed", replayed, n)
	m.model.wanted("skipped", skipped, len(names)-n)
}

// selection draws dead letters: of one destination or all, since one of them was given up or until then.
func (m *machine) selection() relay.Selection {
	s := relay.Selection{Source: source}
	if !m.rarely("any destination", 3) {
		s.Destination = m.destination("of")
	}
	if letters := m.model.selected(relay.Selection{}); len(letters) > 0 && m.rarely("span", 3) {
		m.model.shownLetters(relay.Selection{}, (&bench{Harness: &Harness{Store: m.nodes[0]}, t: m.T}).letters(relay.Selection{}))
		at := letters[m.upTo("letter", len(letters)-1)].deadAt
		if m.rarely("until", 2) {
			s.Until = at
		} else {
			s.Since = at
		}
	}
	return s
}

func (m *machine) redrive() {
	s, p := m.selection(), m.pace()
	if s.Destination == "" || m.Parted {
		p.Every = 0 // which of an event's letters is first is the store's affair
	}
	n, next, err := m.node().Redrive(m.Context(), s, p, "")
	m.Logf("redrive of %+v by %+v: %d, %v", s, p, n, err)
	m.must(err)
	if next != "" {
		m.model.fail("a redrive of %d goes on at %q", n, next)
	}
	m.model.redriven(s, p, n)
}

func (m *machine) discard() {
	s := m.selection()
	s.Orphaned = s.Destination != "" && m.rarely("orphaned", 3)
	n, next, err := m.node().Discard(m.Context(), s, "")
	m.Logf("discard of %+v: %d, %v", s, n, err)
	m.must(err)
	if next != "" {
		m.model.fail("a discard of %d goes on at %q", n, next)
	}
	m.model.discardedBy(s, n)
}

func (m *machine) expire() {
	name, age := m.destination("of"), time.Duration(3*m.upTo("age", 8))*time.Minute+quarter
	letters, err := m.node().Expire(m.Context(), source, name, age)
	m.Logf("expire of %s by %v: %d, %v", name, age, len(letters), err)
	m.must(err)
	m.model.expired(name, age, letters)
}

func (m *machine) reassign() {
	from, to := m.destination("from"), m.destination("to")
	if from == to {
		return
	}
	for d := range m.model.all(from) {
		if d.ordered && m.model.lapsed(d) {
			return // whether it has its task's turn still is the store's affair
		}
	}
	r, next, err := m.node().Reassign(m.Context(), source, from, to, "")
	m.Logf("reassign from %s to %s: %+v, %v", from, to, r, err)
	m.must(err)
	if next != "" {
		m.model.fail("a reassignment of %+v goes on at %q", r, next)
	}
	m.model.reassigned(from, to, r)
}

func (m *machine) purge() {
	p := policy(modelKeep, modelDead)
	p.Windows, p.DefaultWindow = nil, modelWindow
	r := (&bench{Harness: &Harness{Store: m.node()}, t: m.T}).purge(p)
	m.Logf("purge: %+v", r)
	m.model.purged(r, m.gone)
	m.model.purgedTasks()
}

// list lists what a filter selects, by pages.
func (m *machine) list() {
	f := relay.EventFilter{Source: source, Limit: 1 + m.upTo("limit", 3)}
	if m.rarely("by task", 2) {
		f.TaskID = "task-0"
	}
	if m.rarely("by destination", 2) {
		f.Destination = m.destination("of")
	}
	if m.rarely("by state", 2) {
		f.State = rapid.SampledFrom([]relay.State{relay.StatePending, relay.StateDelivered, relay.StateDead}).Draw(m.T, "state")
	}
	b := &bench{Harness: &Harness{Store: m.node()}, t: m.T}
	m.model.shownList(f, b.events(f, nil))
	s := m.selection()
	m.model.shownLetters(s, b.lettersBy(s, f.Limit))
}
