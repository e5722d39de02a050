package storetest

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// shownCount checks the tallies of a destination.
func (m *model) shownCount(destination string, c relay.Count) {
	m.t.Helper()
	var open, flying, lapsed, delivered, dead int64
	for d := range m.all(destination) {
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
	if c.Pending+c.InFlight != open || c.InFlight < flying || c.InFlight > flying+lapsed || c.Delivered != delivered || c.Dead != dead ||
		c.Paused != m.paused[destination] {
		m.fail("%+v; want %d open with %d to %d in flight, %d delivered, %d dead", c, open, flying, flying+lapsed, delivered, dead)
	}
}

// shownList checks which events are listed: newest first, if they keep an order.
func (m *model) shownList(f relay.EventFilter, list []relay.EventRecord) {
	m.t.Helper()
	var want []string
	for _, ev := range slices.Backward(m.events) {
		if (f.TaskID == "" || f.TaskID == ev.TaskID) && (f.Destination == "" || ev.to(f.Destination) != nil) && (f.State == "" || f.State == ev.state()) {
			want = append(want, ev.ID)
		}
	}
	got := ids(list)
	if m.parted {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		m.fail("%+v lists %v, want %v", f, got, want)
	}
	for i := range list {
		m.shownEvent(&list[i], false)
	}
}

func (ev *modelEvent) state() relay.State {
	var r relay.EventRecord
	for _, d := range ev.deliveries {
		r.Deliveries = append(r.Deliveries, relay.DeliveryRecord{State: d.state})
	}
	return r.State()
}

// shownEvent checks an event, whole or as lists have it.
func (m *model) shownEvent(r *relay.EventRecord, whole bool) {
	m.t.Helper()
	ev := m.event(r.ID)
	if ev == nil {
		m.fail("%s is shown, and must not be there", r.ID)
	}
	if r.Seq != ev.Seq || r.TaskID != ev.TaskID || r.Key != ev.Key || r.Duplicates != ev.duplicates || r.Conflicts != ev.conflicts ||
		len(r.Deliveries) != len(ev.deliveries) {
		m.fail("read %+v; want %d duplicates, %d conflicts, %d deliveries", r, ev.duplicates, ev.conflicts, len(ev.deliveries))
	}
	for i := range r.Deliveries {
		m.shownDelivery(ev, &r.Deliveries[i], whole)
	}
	if !whole {
		return
	}
	if !bytes.Equal(r.Body, ev.Body) || !maps.Equal(r.Headers, ev.Headers) || len(r.Variants) != len(ev.variants) || !slices.Equal(sorted(r.Files), sorted(ev.files)) {
		m.fail("read %+v; want %q, %v, %d variants, files %v", r, ev.Body, ev.Headers, len(ev.variants), ev.files)
	}
	for i, v := range r.Variants {
		if v.N != i+1 || !bytes.Equal(v.Body, ev.variants[i].Body) || !maps.Equal(v.Headers, ev.variants[i].Headers) {
			m.fail("variant %d of %s reads %+v", i+1, ev.ID, v)
		}
	}
}

func (m *model) shownDelivery(ev *modelEvent, got *relay.DeliveryRecord, whole bool) {
	m.t.Helper()
	d := ev.to(got.Destination)
	if d == nil {
		m.fail("%s is shown with a delivery to %s", ev.ID, got.Destination)
	}
	state := got.State
	if m.lapsed(d) && state == relay.StatePending {
		state = relay.StateInFlight
	}
	if state != d.state || got.Tries != d.tries || got.Replay != d.replay || got.Variant != d.variant || got.Reason != d.reason {
		m.fail("%s reads %+v; want %s, %d tries, replay %d, variant %d, %q", d.name(), got, d.state, d.tries, d.replay, d.variant, d.reason)
	}
	if d.state == relay.StateDead && d.deadAt.IsZero() {
		d.deadAt = got.DeadAt
	}
	if !got.DeadAt.Equal(d.deadAt) || got.DeadAt.IsZero() == (d.state == relay.StateDead) {
		m.fail("%s reads %+v; want it dead at %v", d.name(), got, d.deadAt)
	}
	if wait := max(0, d.due-m.clock); m.plain(d) && (got.NextAttempt > wait || got.NextAttempt < wait-slack) || d.behind != "" && got.NextAttempt != 0 {
		m.fail("%s reads %+v; want it due in %v", d.name(), got, wait)
	}
	same := func(a, b relay.Attempt) bool { return a.Status == b.Status && bytes.Equal(a.Response, b.Response) }
	if whole && !slices.EqualFunc(got.Attempts, d.attempts, same) {
		m.fail("%s has the attempts %+v, want %+v", d.name(), got.Attempts, d.attempts)
	}
}

// shownLetters checks the dead letters of a selection, newest event first.
func (m *model) shownLetters(s relay.Selection, letters []relay.DeadLetter) {
	m.t.Helper()
	want := m.selected(s)
	m.wanted("dead letters", len(letters), len(want))
	for i, l := range letters {
		ev := m.event(l.EventID)
		if ev == nil || ev.to(l.Destination) == nil || i > 0 && !m.parted && m.event(letters[i-1].EventID).Seq < ev.Seq {
			m.fail("listed %+v after %v", l, letters[:i])
		}
		d := ev.to(l.Destination)
		if d.deadAt.IsZero() {
			d.deadAt = l.DeadAt
		}
		if !slices.Contains(want, d) || l.TaskID != ev.TaskID || l.Attempts != d.tries || !l.DeadAt.Equal(d.deadAt) || l.LastError != d.reason ||
			d.tries > 0 && l.LastStatus != d.attempts[d.tries-1].Status {
			m.fail("listed %+v of %+v", l, d)
		}
		want = slices.DeleteFunc(want, func(other *modelDelivery) bool { return other == d })
	}
}

func sorted(files []relay.File) []relay.File {
	return slices.SortedFunc(slices.Values(files), func(a, b relay.File) int { return strings.Compare(a.Field, b.Field) })
}
