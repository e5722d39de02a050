package powercut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// judge judges an embedded store.
type judge struct {
	// slots are the most deliveries of each destination that may be in flight.
	slots map[string]int
	// old are events that were there before, with deliveries to destinations that are not in the configuration.
	old map[string]*relay.EventRecord
	// also judges something more; nil if there is nothing more.
	also func(folder string, s relay.Store, events map[string]*relay.EventRecord) error
}

// verdict opens the store that a cut has left. Every callback that was answered must be in it, with a delivery to each
// destination; each attempt that was followed by another is settled, and of the others no more than there are slots are not;
// what is pending can be leased; a callback that comes again is a duplicate; and new ones are accepted.
func (j judge) verdict(folder string, o *observed) (err error) {
	path := filepath.Join(folder, "caddy", "relay", "relay.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(o.answered)+len(j.old) == 0 {
		return nil // it was not made yet
	}
	s, err := sqlitestore.Open(context.Background(), sqlitestore.Options{Path: path, MinFree: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(), whole(path)) }()
	events, err := readEvents(s)
	if err != nil {
		return err
	}
	var lost []error
	for id := range o.answered {
		if events[id] == nil {
			lost = append(lost, fmt.Errorf("event %s was answered and is lost", id))
		}
	}
	for id, before := range j.old {
		lost = append(lost, sameDeliveries(before, events[id]))
		delete(events, id)
	}
	for destination, most := range j.slots {
		lost = append(lost, judgeDestination(s, events, destination, o.attempts[destination], most*(1+o.ends)))
	}
	if j.also != nil {
		lost = append(lost, j.also(folder, s, events))
	}
	return errors.Join(append(lost, judgeRepetition(s, events, o), acceptOne(s))...)
}

// sameDeliveries checks that an event is as it was.
func sameDeliveries(before, after *relay.EventRecord) error {
	if after == nil {
		return fmt.Errorf("event %s was there before and is lost", before.ID)
	}
	for _, d := range before.Deliveries {
		now := deliveryTo(after, d.Destination)
		if now == nil || now.State != d.State || now.Tries != d.Tries {
			return fmt.Errorf("the delivery of event %s to %s was %+v and is %+v", before.ID, d.Destination, d, now)
		}
	}
	return nil
}

// readEvents lists all events.
func readEvents(s relay.Store) (map[string]*relay.EventRecord, error) {
	events := map[string]*relay.EventRecord{}
	busy := 0
	for cursor := ""; ; {
		page, next, err := s.Events(context.Background(), relay.EventFilter{Limit: 100, Cursor: cursor})
		if errors.Is(err, relay.ErrUnavailable) && busy < 10 {
			busy++ // a read ends after two seconds, which a busy machine may need
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("events cannot be listed: %w", err)
		}
		for i := range page {
			events[page[i].ID] = &page[i]
		}
		if cursor = next; cursor == "" {
			return events, nil
		}
	}
}

// judgeDestination compares the deliveries of a destination with the attempts that were begun.
func judgeDestination(s relay.Store, events map[string]*relay.EventRecord, destination string, attempts map[string]int, most int) error {
	var lost []error
	due, unsettled := map[string]bool{}, 0
	for id, e := range events {
		d := deliveryTo(e, destination)
		if d == nil {
			lost = append(lost, fmt.Errorf("event %s has no delivery to %s", id, destination))
			continue
		}
		archive := deliveryTo(e, relay.ArchiveName) // which it may wait for
		if d.State == relay.StatePending && d.NextAttempt == 0 && (archive == nil || archive.State != relay.StatePending) {
			due[id] = true
		}
		switch begun := attempts[id]; {
		case begun > d.Tries+1:
			lost = append(lost, fmt.Errorf("event %s has %d settled attempts to %s, and attempt %d was begun", id, d.Tries, destination, begun))
		case begun == d.Tries+1 && d.State == relay.StatePending:
			unsettled++
		}
	}
	for id := range attempts {
		if events[id] == nil {
			lost = append(lost, fmt.Errorf("event %s was delivered to %s and is lost", id, destination))
		}
	}
	if unsettled > most {
		lost = append(lost, fmt.Errorf("%d attempts to %s are not settled, more than %d", unsettled, destination, most))
	}
	l := &relay.Lease{Source: "vocals", Destination: destination, Max: len(due) + 10, For: time.Minute}
	s.Apply(context.Background(), &relay.Batch{Leases: []*relay.Lease{l}})
	if l.Err != nil {
		lost = append(lost, l.Err)
	}
	for _, d := range l.Leased {
		delete(due, d.Event.ID)
	}
	if len(due) > 0 {
		lost = append(lost, fmt.Errorf("%d deliveries to %s are due and cannot be leased", len(due), destination))
	}
	return errors.Join(lost...)
}

func deliveryTo(e *relay.EventRecord, destination string) *relay.DeliveryRecord {
	for i := range e.Deliveries {
		if e.Deliveries[i].Destination == destination {
			return &e.Deliveries[i]
		}
	}
	return nil
}

// judgeRepetition has some callbacks come again that were answered.
func judgeRepetition(s relay.Store, events map[string]*relay.EventRecord, o *observed) error {
	var wrong []error
	n := 0
	for id := range o.answered {
		e := events[id]
		if e == nil {
			continue
		}
		if n++; n > 20 {
			break
		}
		again := e.Event // without its fingerprint, so that it says something else
		again.ID = ulid.Make().String()
		a := &relay.Accept{Event: &again, Window: time.Hour}
		s.Apply(context.Background(), &relay.Batch{Accepts: []*relay.Accept{a}})
		if wrong = append(wrong, a.Err); a.Err == nil && (a.Result == relay.Accepted || a.FirstID != id) {
			wrong = append(wrong, fmt.Errorf("the callback of event %s comes again and is not recognised: result %d", id, a.Result))
		}
	}
	return errors.Join(wrong...)
}

// acceptOne accepts a new callback.
func acceptOne(s relay.Store) error {
	id := ulid.Make()
	a := &relay.Accept{
		Event: &relay.Event{ID: id.String(), Source: "vocals", TaskID: "after", Key: [32]byte(append(id[:], id[:]...)), Origin: relay.OriginCallback, Body: []byte("{}")}, Window: time.Hour,
		Deliveries: []relay.NewDelivery{{Destination: "good"}},
	}
	s.Apply(context.Background(), &relay.Batch{Accepts: []*relay.Accept{a}})
	if a.Err == nil && a.Result != relay.Accepted {
		return fmt.Errorf("a new callback is no new event: result %d", a.Result)
	}
	return a.Err
}

// whole checks a file with SQLite's integrity_check.
func whole(path string) error {
	out, err := exec.Command("sqlite3", path, "PRAGMA integrity_check").CombinedOutput()
	if verdict := strings.TrimSpace(string(out)); err == nil && verdict != "ok" {
		err = fmt.Errorf("%s is damaged: %s", path, verdict)
	}
	return err
}
