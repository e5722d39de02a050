package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestRecentEventsAreKeptForTheirFirstLeases(t *testing.T) {
	var c recent
	e := &relay.Event{ID: "one", Body: make([]byte, 100)}
	c.add(e, 2)
	for n, want := range []*relay.Event{e, e, nil} {
		if got := c.take("one"); got != want {
			t.Errorf("lease %d found %v, want %v", n+1, got, want)
		}
	}
	if c.young.bytes != 0 {
		t.Errorf("%d bytes are left", c.young.bytes)
	}
}

func TestRecentEventsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c recent
		c.add(&relay.Event{ID: "first"}, 1)
		<-time.After(recentFor + 1)
		c.add(&relay.Event{ID: "second"}, 1)
		c.add(&relay.Event{ID: "third"}, 2)
		if c.take("first") == nil {
			t.Error("the first one was forgotten at once")
		}
		<-time.After(recentFor + 1)
		c.add(&relay.Event{ID: "fourth"}, 1)
		if c.take("third") == nil {
			t.Error("the third one was forgotten before its time")
		}
		<-time.After(recentFor + 1)
		c.add(&relay.Event{ID: "fifth"}, 1)
		if c.take("second") != nil || c.take("third") != nil {
			t.Error("nothing was forgotten")
		}
	})
}

// The last events of a crowd do not stay in memory for as long as no other one comes.
func TestRecentEventsAreForgottenWhileNoneCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c recent
		c.add(&relay.Event{ID: "last", Body: make([]byte, 100)}, 1)
		for range 2 {
			<-time.After(recentFor + 1)
			c.forget()
		}
		if len(c.young.events)+len(c.old.events)+c.young.bytes+c.old.bytes != 0 {
			t.Errorf("kept are %v and %v", c.young, c.old)
		}
	})
}

// Those that are there stay: they are leased before later ones.
func TestRecentEventsAreBounded(t *testing.T) {
	var c recent
	for n := range recentEvents + 1 {
		c.add(&relay.Event{ID: fmt.Sprint(n)}, 1)
	}
	if c.take(fmt.Sprint(recentEvents)) != nil || c.take("0") == nil {
		t.Error("the last one was kept, or the first one was not")
	}
	c = recent{}
	for n := range 3 {
		c.add(&relay.Event{ID: fmt.Sprint(n), Body: make([]byte, recentBytes/2)}, 1)
	}
	if c.take("2") != nil || c.take("1") == nil || c.take("0") == nil {
		t.Error("not the first two bodies were kept")
	}
	c = recent{}
	for n := range 3 {
		c.add(&relay.Event{ID: fmt.Sprint(n), Headers: relay.Headers{"a": strings.Repeat("a", recentBytes/2-100)}}, 1)
	}
	if c.take("2") != nil || c.take("1") == nil || c.take("0") == nil || c.young.bytes != 0 {
		t.Error("not the first two events' headers were kept")
	}
}
