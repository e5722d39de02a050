package storetest

import (
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// wanted checks how many deliveries an operation says that it has changed.
func (m *model) wanted(what string, got, want int) {
	m.t.Helper()
	if got != want {
		m.fail("%s: %d, want %d", what, got, want)
	}
}

// again sets a settled delivery to pending, due after a delay: a replay counts from then.
func (m *model) again(d *modelDelivery, variant int, delay time.Duration) {
	d.state, d.due, d.used, d.variant, d.behind, d.voided, d.retried = relay.StatePending, m.clock+delay, 0, variant, "", false, false
	d.fresh, d.since, d.reason, d.deadAt, d.last = false, d.due, "", time.Time{}, nil
	d.replay++
}

// replay sets a delivery of an event to pending, adding it if there is none, and reports whether it could.
func (m *model) replay(ev *modelEvent, destination string, variant int, p relay.Pace, place int) bool {
	d := ev.to(destination)
	switch {
	case d == nil:
		d = &modelDelivery{event: ev, destination: destination}
		ev.deliveries = append(ev.deliveries, d)
	case d.unsettled() || m.replayedSince(d, p.Asked):
		return false
	}
	m.again(d, variant, p.Due(place))
	return true
}

// replayedSince reports whether a delivery was replayed since an operation was asked for.
func (m *model) replayedSince(d *modelDelivery, asked time.Duration) bool {
	return d.replay > 0 && d.since > m.clock-asked && d.since <= m.clock
}

// selected returns the dead letters of a selection, and for Discard its orphans, oldest event first.
func (m *model) selected(s relay.Selection) (found []*modelDelivery) {
	for _, ev := range m.events {
		for _, d := range ev.deliveries {
			switch {
			case s.Source != "" && s.Source != source || s.Destination != "" && s.Destination != d.destination:
			case d.state == relay.StateDead && !d.deadAt.Before(s.Since) && (s.Until.IsZero() || d.deadAt.Before(s.Until)),
				s.Orphaned && d.unsettled() && !m.flying(d):
				found = append(found, d)
			}
		}
	}
	return found
}

// redriven follows a redrive.
func (m *model) redriven(s relay.Selection, p relay.Pace, n int) {
	m.t.Helper()
	place := 0
	for _, d := range m.selected(s) {
		if !m.replayedSince(d, p.Asked) {
			m.again(d, d.variant, p.Due(place))
			place++
		}
	}
	m.wanted("redriven", n, place)
}

// discardedBy follows a discard.
func (m *model) discardedBy(s relay.Selection, n int) {
	m.t.Helper()
	chosen := m.selected(s)
	for _, d := range chosen {
		ev := d.event
		ev.deliveries = slices.DeleteFunc(ev.deliveries, func(other *modelDelivery) bool { return other == d })
		ev.free(d.destination)
		d.state, d.lease, d.last, ev.discarded = "", nil, nil, m.clock
	}
	m.wanted("discarded", n, len(chosen))
}

// expired follows the expiry of what is older than an age.
func (m *model) expired(destination string, age time.Duration, letters []relay.DeadLetter) {
	m.t.Helper()
	n := 0
	for d := range m.all(destination) {
		if !d.unsettled() || m.flying(d) || m.clock-d.since <= age {
			continue
		}
		n++
		if !slices.ContainsFunc(letters, func(l relay.DeadLetter) bool { return l.EventID == d.event.ID }) {
			m.fail("%s did not expire", d.name())
		}
		m.settle(d, relay.StateDead, relay.ErrExpired.Error())
		d.last = nil // whose lease had ended comes too late now
	}
	m.wanted("expired", len(letters), n)
}

// reassigned follows the handing of a destination's deliveries to another one.
func (m *model) reassigned(from, to string, r relay.Reassigned) {
	m.t.Helper()
	want := relay.Reassigned{}
	for d := range m.all(from) {
		if !m.movable(d, to) {
			want.Left++
			continue
		}
		want.Moved++
		d.event.free(from)
		if m.lapsed(d) {
			d.state, d.lease, d.voided = relay.StatePending, nil, true
		}
		d.destination, d.fresh = to, false
		if d.state == relay.StatePending {
			d.last = nil
		}
	}
	if r != want {
		m.fail("reassigned %+v, want %+v", r, want)
	}
}

func (m *model) movable(d *modelDelivery, to string) bool {
	if m.flying(d) || d.event.to(to) != nil || d.unsettled() && d.behind != "" {
		return false
	}
	for other := range m.chain(d) {
		if d.unsettled() && m.flying(other) {
			return false
		}
	}
	return true
}

// purged follows a purge. What is past its retention may stay for as long as the longest one again, where it was passed
// over before its last settle.
func (m *model) purged(r relay.PurgeResult, gone func(*modelEvent) bool) {
	m.t.Helper()
	want := relay.PurgeResult{DeadLetters: map[relay.DestinationName]int{}, Deliveries: map[relay.DestinationName]int{}}
	m.events = slices.DeleteFunc(m.events, func(ev *modelEvent) bool {
		keep, pending, last := modelKeep, false, ev.accepted
		for _, d := range ev.deliveries {
			pending, last = pending || d.unsettled(), max(last, d.settled)
			if d.state == relay.StateDead {
				keep = modelDead
			}
		}
		switch ev.gone = gone(ev); {
		case ev.gone && (pending || m.clock < last+keep):
			m.fail("purged %s, pending %v, before its time", ev.ID, pending)
		case !ev.gone && !pending && m.clock >= max(ev.settled, ev.discarded)+max(modelKeep, modelDead):
			m.fail("did not purge %s", ev.ID)
		case !ev.gone:
			return false
		}
		want.Events++
		for _, d := range ev.deliveries {
			name := relay.DestinationName{Source: source, Destination: d.destination}
			want.Deliveries[name]++
			if d.state == relay.StateDead {
				want.DeadLetters[name]++
			}
			d.lease, d.last = nil, nil
		}
		return true
	})
	m.wanted("purged events", r.Events, want.Events)
	for _, of := range []struct{ got, want map[relay.DestinationName]int }{{r.Deliveries, want.Deliveries}, {r.DeadLetters, want.DeadLetters}} {
		for name := range of.got {
			m.wanted("purged of "+name.Destination, of.got[name], of.want[name])
		}
		for name := range of.want {
			m.wanted("purged of "+name.Destination, of.got[name], of.want[name])
		}
	}
}
