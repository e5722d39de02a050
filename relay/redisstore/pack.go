package redisstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// pack is an event's record, as prelude.lua writes it.
type pack struct {
	seq          int64
	accepted     int64  // by the source's clock
	letters      string // one per destination
	destinations []string
	attempts     map[int]string // by place
}

// decodePack reads an event's record.
func decodePack(text string) (*pack, error) {
	head, rest, _ := strings.Cut(text, "\n")
	f := strings.SplitN(head, " ", 8)
	if len(f) < 8 {
		return nil, fmt.Errorf("unreadable record of an event: %.100q", head)
	}
	p := &pack{letters: f[0], destinations: strings.Fields(f[7])}
	p.seq, _ = strconv.ParseInt(f[3], 10, 64) // written by the script, which knows only numbers here
	p.accepted, _ = strconv.ParseInt(f[4], 10, 64)
	if len(p.letters) != len(p.destinations) {
		return nil, fmt.Errorf("unreadable record of an event: %.100q", head)
	}
	for line := range strings.SplitSeq(rest, "\n") {
		place, attempt, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(place)
		if len(attempt) > 1 { // after the digit of what it used up
			if p.attempts == nil {
				p.attempts = map[int]string{}
			}
			p.attempts[n-1] = attempt[1:]
		}
	}
	return p, nil
}

// deliveries returns those of the event. Of those that wait or are unpacked their destinations know the state.
func (p *pack) deliveries() (list []relay.DeliveryRecord) {
	for i, name := range p.destinations {
		d := relay.DeliveryRecord{Destination: name}
		switch p.letters[i : i+1] {
		case letterLeased:
			d.State = relay.StateInFlight
		case letterDelivered:
			d.State = relay.StateDelivered
			if p.attempts[i] != "" {
				d.Tries = 1
			}
		}
		if name != nobody {
			list = append(list, d)
		}
	}
	return list
}

// attempt returns the JSON of a destination's first attempt, if it is in the record.
func (p *pack) attempt(destination string) string {
	if i := p.place(destination); i >= 0 {
		return p.attempts[i]
	}
	return ""
}

// waiting reports whether a destination's delivery has no record but the event's, and is pending or leased for the first time.
func (p *pack) waiting(destination string) bool {
	i := p.place(destination)
	return i >= 0 && p.letters[i:i+1] == letterWaiting
}

// place returns the place of a destination among those of the event, or -1.
func (p *pack) place(destination string) int {
	if p == nil {
		return -1
	}
	return slices.Index(p.destinations, destination)
}
