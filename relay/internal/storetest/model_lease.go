package storetest

import (
	"errors"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// leased follows a lease.
func (m *model) leased(op *relay.Lease) {
	m.t.Helper()
	if op.Err != nil || op.Paused != m.paused[op.Destination] || op.Paused && len(op.Leased) > 0 || len(op.Dead) > 0 {
		m.fail("lease of %s: leased %d, paused %v, lost %v, %v", op.Destination, len(op.Leased), op.Paused, op.Dead, op.Err)
	}
	if op.Paused {
		return
	}
	var must, may, taken []*modelDelivery
	for d := range m.all(op.Destination) {
		certain, possible := m.leasable(d, op.Probe)
		if certain && !m.overlooked(d, op) {
			must = append(must, d)
		}
		if possible {
			may = append(may, d)
		}
	}
	if len(op.Leased) > op.Max || len(op.Leased) < min(len(must), op.Max) {
		m.fail("leased %d of at most %d from %s, where %d must be there and %d may", len(op.Leased), op.Max, op.Destination, len(must), len(may))
	}
	for _, l := range op.Leased {
		i := slices.IndexFunc(may, func(d *modelDelivery) bool { return d.event.ID == l.Event.ID })
		if i < 0 {
			m.fail("leased %s to %s, which is not there to lease", l.Event.ID, op.Destination)
		}
		taken = append(taken, may[i])
		may = slices.Delete(may, i, i+1)
	}
	m.inTurn(op, taken, may)
	for i, d := range taken {
		if _, may := m.leasable(d, op.Probe); !may {
			m.fail("leased two of a task at a time, %s one of them", d.name())
		}
		m.take(d, op.Leased[i], false)
	}
	if len(op.Leased) < op.Max {
		for d := range m.all(op.Destination) {
			if must, _ := m.leasable(d, op.Probe); must && !m.overlooked(d, op) {
				m.fail("did not lease %s", d.name())
			}
		}
	}
}

// overlooked reports whether a lease may pass over a delivery that it could take: a probe does not look into all partitions
// for leases that have ended by themselves, and a lease that has asked often enough says that there is more.
func (m *model) overlooked(d *modelDelivery, op *relay.Lease) bool {
	return m.parted && (op.Probe && m.adrift(d) || op.Next == 0)
}

// inTurn checks that what was leased came before what was left, and in its own order: what was never leased in the order
// of acceptance, retries in that of their due times, and for a probe what was never tried before what was.
func (m *model) inTurn(op *relay.Lease, taken, left []*modelDelivery) {
	m.t.Helper()
	for i, d := range taken {
		for _, later := range slices.Concat(taken[i+1:], left) {
			if m.plain(d) && m.plain(later) && m.together(d.event, later.event) && before(later, d, op.Probe) {
				m.fail("leased %s before %s", d.name(), later.name())
			}
		}
	}
}

func before(a, b *modelDelivery, probe bool) bool {
	switch {
	case probe && a.tries == 0 && b.tries > 0:
		return true
	case a.fresh && b.fresh:
		return a.event.Seq < b.event.Seq
	}
	return a.retried && b.retried && (!probe || a.tries > 0 && b.tries > 0) && a.due < b.due
}

// next checks how long it is said to be until something can be leased, after all of a batch.
func (m *model) next(op *relay.Lease) {
	m.t.Helper()
	if op.Paused || m.shared && op.Next == 0 || m.parted && (op.Probe || len(op.Leased) == op.Max) {
		return // another client may have said that something is due, or not all partitions were asked
	}
	soonest, exact, waits, due := time.Duration(-1), true, false, false
	for d := range m.all(op.Destination) {
		at := max(d.due, m.clock)
		must, may := m.leasable(d, false)
		switch {
		case m.flying(d):
			at = d.lease.expires
		case !d.unsettled() || d.behind != "":
			continue
		case !m.plain(d):
			exact = false
		}
		due = due || must
		waits = waits || may || m.flying(d) || m.plain(d)
		if soonest < 0 || at-m.clock < soonest {
			soonest = at - m.clock
		}
	}
	switch {
	case due && op.Next != 0, waits && op.Next < 0, exact && soonest < 0 && op.Next >= 0,
		exact && soonest >= 0 && (op.Next > soonest || !m.shared && op.Next <= soonest-slack): // sooner costs a look in vain
		m.fail("next of %s is %v, want %v, exact %v", op.Destination, op.Next, soonest, exact)
	}
}

// settled follows a settle of a lease.
func (m *model) settled(op *relay.Settle, l *modelLease) {
	m.t.Helper()
	d, lost := l.delivery, errors.Is(op.Err, relay.ErrLeaseLost)
	switch {
	case op.Err != nil && !lost:
		m.fail("settle of %s: %v", d.name(), op.Err)
	case d.lease != l && !lost && (!l.settled || d.last != l): // a store may know what it has done already
		m.fail("a settle of %s by the token %d, which is not the current one, is not refused", d.name(), l.Token)
	case d.lease != l:
		return
	case lost && !m.lapsed(d):
		m.fail("a settle of %s by its current token is refused", d.name())
	case lost:
		d.state, d.lease, d.voided = relay.StatePending, nil, true
		return
	}
	told := map[*modelDelivery]bool{} // what may have had the turn since the lease lapsed, and been said to be due then
	for next := range m.chain(d) {
		_, told[next] = m.leasable(next, false)
	}
	l.settled, d.lease = true, nil
	if op.Attempt != nil {
		d.tries++
		d.attempts = append(d.attempts, *op.Attempt)
	}
	if op.Used {
		d.used++
	}
	d.event.keep(op.Files)
	var freed []string
	switch op.Outcome {
	case relay.OutcomeDelivered, relay.OutcomeDead:
		freed = m.settle(d, relay.StateDelivered, "")
		if op.Outcome == relay.OutcomeDead {
			d.state, d.reason = relay.StateDead, op.Reason
		}
	case relay.OutcomeRetry:
		d.state, d.due, d.retried = relay.StatePending, m.clock+op.Delay, true
	case relay.OutcomeRelease:
		d.state, d.due = relay.StatePending, m.clock
	}
	slices.Sort(op.Freed)
	if !slices.Equal(op.Freed, freed) {
		m.fail("the settle of %s freed %v, want %v", d.name(), op.Freed, freed)
	}
	if !d.unsettled() && !op.Unblocked {
		for next := range m.chain(d) {
			if must, _ := m.leasable(next, false); must && !told[next] {
				m.fail("the settle of %s does not say that %s is due", d.name(), next.name())
			}
		}
	}
}

// settle ends a delivery, and frees those that wait for it.
func (m *model) settle(d *modelDelivery, state relay.State, reason string) (freed []string) {
	d.state, d.reason, d.lease, d.deadAt = state, reason, nil, time.Time{}
	d.settled, d.event.settled = m.clock, m.clock
	return d.event.free(d.destination)
}

// free releases what waits for a delivery, and returns it.
func (ev *modelEvent) free(destination string) (freed []string) {
	for _, d := range ev.deliveries {
		if d.behind == destination {
			d.behind = ""
			if d.unsettled() {
				freed = append(freed, d.destination)
			}
		}
	}
	slices.Sort(freed)
	return freed
}

// keep keeps files, one per field.
func (ev *modelEvent) keep(files []relay.File) {
	for _, f := range files {
		i := slices.IndexFunc(ev.files, func(old relay.File) bool { return old.Field == f.Field })
		if i < 0 {
			ev.files = append(ev.files, f)
		} else {
			ev.files[i] = f
		}
	}
}

// reopened follows the end of a process.
func (m *model) reopened() {
	if m.voids {
		m.polled = -time.Hour
	}
	for _, ev := range m.events {
		for _, d := range ev.deliveries {
			if m.voids && d.state == relay.StateInFlight {
				d.state, d.lease, d.voided, d.last = relay.StatePending, nil, true, nil
			}
		}
	}
}
