package redisstore_test

import (
	"slices"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// An event whose record cannot be read is purged with those before and after it, and does not spoil a look at its source.
func TestAnUnreadableEventIsPurged(t *testing.T) {
	s := open(t)
	for i := range 3 {
		a := packed(t, s, "one")
		delivered(t, s, a.Leased...)
		if i == 1 {
			server.Do(t, "HSET", t.Name()+":{vocals}:packs", a.Event.ID, "unreadable")
		}
	}
	if r, err := s.Purge(t.Context(), relay.PurgePolicy{}); r.Events != 3 || err != nil {
		t.Errorf("purge gave %+v, %v", r, err)
	}
	if got := keysOf(t, server, t.Name()); !slices.Equal(got, []string{"head", "meta"}) {
		t.Errorf("left are %v", got)
	}
	b := packed(t, s, "one")
	server.Do(t, "HSET", t.Name()+":{vocals}:packs", b.Event.ID, "unreadable")
	s.Refresh()
	if err := s.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// A purge that fails halfway is done in full the next time.
func TestAFailedPurgeIsRepeated(t *testing.T) {
	s := open(t)
	var payload string
	for i := range 3 {
		a := packed(t, s, "one")
		delivered(t, s, a.Leased...)
		if i == 1 {
			payload = t.Name() + ":{vocals}:v:" + a.Event.ID
		}
	}
	server.Do(t, "RENAME", payload, t.Name()+":aside")
	server.Do(t, "HSET", payload, "no", "payload")
	if _, err := s.Purge(t.Context(), relay.PurgePolicy{}); err == nil {
		t.Error("an event that cannot be deleted is no error")
	}
	server.Do(t, "DEL", payload)
	server.Do(t, "RENAME", t.Name()+":aside", payload)
	if r, err := s.Purge(t.Context(), relay.PurgePolicy{}); r.Events == 0 || err != nil {
		t.Errorf("purge gave %+v, %v", r, err)
	}
	if got := keysOf(t, server, t.Name()); !slices.Equal(got, []string{"head", "meta"}) {
		t.Errorf("left are %v", got)
	}
}
