package redisstore

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// acceptGroups parts accepts into those that one script stores.
func (s *Store) acceptGroups(accepts []*relay.Accept) []*group[*relay.Accept] {
	l := s.layout.Load()
	return grouped(accepts, func(a *relay.Accept) (*shard, int, int) {
		return l.ofAccept(a), max(1, len(a.Deliveries)), len(a.Event.Body)
	})
}

// acceptArgs are the arguments of accepts of one partition, as accept.lua has them.
type acceptArgs struct {
	destinations indexes
	keys         map[[32]byte]bool // of earlier accepts of these
	routes       map[string]string // their numbers, by what they are encoded as
	route        []byte            // the latest one, encoded
	routeArgs    []any
	args         []any // of the accepts themselves
}

// acceptCall returns the call of accepts of one partition. With again, an earlier try of each may have stored it.
func (s *Store) acceptCall(h *shard, accepts []*relay.Accept, again bool) *call {
	x := acceptArgs{keys: make(map[[32]byte]bool, len(accepts)), routes: map[string]string{}, args: make([]any, 0, 4*len(accepts))}
	ending := false
	for _, a := range accepts {
		x.add(a, again)
		ending = ending || a.Ends != relay.NotEnding
	}
	c := &call{script: acceptScript, durable: true, keys: x.destinations.destinations(h, 2*len(accepts)+taskKeys)}
	for _, a := range accepts {
		c.keys = append(c.keys, h.payload(a.Event.ID))
	}
	for _, a := range accepts {
		if a.Again || again {
			c.keys = append(c.keys, h.event(a.Event.ID))
		}
	}
	if ending {
		c.script, c.keys = taskAcceptScript, h.expected(c.keys)
	}
	c.args = make([]any, 0, 2+len(x.destinations.names)+len(x.routeArgs)+len(x.args))
	c.args = append(x.destinations.args(c.args), len(x.routes))
	c.args = append(append(c.args, x.routeArgs...), x.args...)
	return c
}

// add appends the arguments of an accept.
func (x *acceptArgs) add(a *relay.Accept, again bool) {
	e := a.Event
	flags := ""
	if a.Again || again {
		flags += "a"
	}
	if x.keys[e.Key] {
		flags += "k"
	}
	x.keys[e.Key] = true
	if a.Separate {
		flags += "s"
	}
	if a.Ends != relay.NotEnding {
		flags += "e"
		if e.Origin == relay.OriginRecovered {
			flags += "r"
		}
	}
	waiters := x.waiters(a)
	x.args = append(x.args, x.routed(a)+flags, encodeMark(e), e.TaskID, encodePayload(e, waiters))
	if a.Separate {
		separated := e.Separated("")
		x.args = append(x.args, separated.Key[:], beginPayload(nil, separated, waiters))
		if key, ok := e.ProofKey(); ok {
			x.args = append(x.args, key[:])
		} else {
			x.args = append(x.args, "")
		}
	}
	if a.Ends != relay.NotEnding {
		x.args = append(x.args, int(a.Ends))
	}
}

// routed returns the number of the accept's route: where it goes, and how. Most accepts of a batch share one.
func (x *acceptArgs) routed(a *relay.Accept) string {
	b := binary.AppendVarint(x.route[:0], int64(a.Window))
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		b = binary.AppendVarint(b, int64(x.destinations.index(d.Destination)))
		b = binary.AppendVarint(b, int64(d.LeaseFor))
		b = binary.AppendVarint(b, int64(x.awaited(a, d)))
		if d.Ordered {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	x.route = b
	if n, ok := x.routes[string(b)]; ok {
		return n
	}
	n := strconv.Itoa(len(x.routes) + 1)
	x.routes[string(b)] = n
	x.routeArgs = append(x.routeArgs, a.Window.Microseconds(), len(a.Deliveries))
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		x.routeArgs = append(x.routeArgs, x.destinations.index(d.Destination), d.LeaseFor.Microseconds(), d.Ordered, x.awaited(a, d))
	}
	return n
}

// waiters returns pairs of destinations of which the first one's delivery waits for the second's.
func (x *acceptArgs) waiters(a *relay.Accept) string {
	var pairs []string
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		if awaited := a.Awaited(d); awaited != "" {
			pairs = append(pairs, d.Destination, awaited)
		}
	}
	return strings.Join(pairs, " ")
}

// awaited returns the number of the destination that a delivery waits for, or 0.
func (x *acceptArgs) awaited(a *relay.Accept, d *relay.NewDelivery) int {
	if name := a.Awaited(d); name != "" {
		return x.destinations.index(name)
	}
	return 0
}

// acceptedAll sets the outcome of accepts of one partition.
func (s *Store) acceptedAll(h *shard, accepts []*relay.Accept, c *call) {
	counts := 0
	if c.script == taskAcceptScript {
		counts = taskCounts
	}
	list, err := c.list(len(accepts) + counts)
	for i, a := range accepts {
		s.accepted(h, a, list[i], err)
	}
	if err == nil && counts > 0 {
		r := &reply{script: c.script.name, whole: c.reply, rest: list[len(accepts):]}
		if n := r.taskCount(); r.done() == nil {
			s.taskTally.set(h, n)
		}
	}
}

// accepted sets the outcome of an accept by what the script has returned of it.
func (s *Store) accepted(h *shard, a *relay.Accept, value any, err error) {
	a.Err, a.Leased, a.ConflictWith = err, nil, ""
	if a.Err != nil {
		return
	}
	result, first, age, beside := relay.Accepted, a.Event.ID, int64(0), ""
	var seq int64
	var tokens []int64
	r := &reply{}
	n, letters, ok := plainly(value, len(a.Deliveries))
	if ok {
		seq, tokens = n, make([]int64, len(a.Deliveries))
		for i := range tokens {
			if letters == "" || letters[i:i+1] == letterLeased {
				tokens[i] = -(n + int64(i) + 1)
			}
		}
	} else {
		r = readReply(acceptScript.name, value)
		result, first, seq, age, beside = relay.Result(r.number()), r.text(), r.number(), r.number(), r.text()
		tokens = r.numbers(r.groups(1))
	}
	if result < relay.Accepted || result > acceptedBefore || len(tokens) != len(a.Deliveries) && (len(tokens) > 0 || result == relay.Accepted) ||
		result == relay.Unexpected && a.Ends == relay.NotEnding {
		r.fail()
	}
	if a.Err = r.done(); a.Err != nil {
		return
	}
	a.FirstID, a.Result = first, result
	if result != relay.Accepted && result != acceptedBefore {
		return
	}
	a.Result, a.ConflictWith, a.Event.Seq = relay.Accepted, beside, seq
	ev := a.Event
	if beside != "" {
		ev = ev.Separated(beside)
	}
	if waiting := strings.Count(letters, letterWaiting); waiting > 0 {
		s.recent.add(ev, waiting)
	}
	for i, token := range tokens {
		name := relay.DestinationName{Source: a.Event.Source, Destination: a.Deliveries[i].Destination}
		switch {
		case token == leftAlone:
			continue
		case token == 0:
			s.tally.add(h, name.Destination, func(c *relay.Count) {
				c.Pending++
				if result == acceptedBefore {
					c.InFlight--
				}
			})
			s.horizon.soon(h, name.Destination, 0)
			s.tell(name)
			continue
		case result == relay.Accepted:
			s.tally.add(h, name.Destination, func(c *relay.Count) { c.InFlight++ })
		}
		a.Leased = append(a.Leased, &relay.Leased{
			Event: ev, Destination: name.Destination, Token: h.token(token), Age: time.Duration(age) * time.Microsecond,
			Awaiting: awaiting(a, name.Destination),
		})
	}
}

// plainly reads the sequence of an event all of whose deliveries are in its record, and their letters, which are empty if all are
// leased.
func plainly(value any, deliveries int) (seq int64, letters string, ok bool) {
	switch v := value.(type) {
	case int64:
		return v, "", v >= leastSeq
	case string:
		if len(v) != deliveries+seqDigits {
			return 0, "", false
		}
		seq, err := strconv.ParseInt(v[deliveries:], 10, 64)
		return seq, v[:deliveries], err == nil
	}
	return 0, "", false
}

// seqDigits is how many digits a script writes a sequence in.
const seqDigits = 16

// leastSeq is less than any sequence, which is Redis's time in microseconds or later, and more than what else a script returns.
const leastSeq = 1 << 40

// leftAlone is in place of the token of a delivery that this try has not leased.
const leftAlone = -1

// awaiting returns the destinations whose deliveries of an accept wait for one of its deliveries.
func awaiting(a *relay.Accept, destination string) (names []string) {
	for i := range a.Deliveries {
		if d := &a.Deliveries[i]; d.Behind == destination && a.Awaited(d) != "" {
			names = append(names, d.Destination)
		}
	}
	return names
}
