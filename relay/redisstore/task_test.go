package redisstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A task whose record Redis has lost is forgotten, and keeps no other from being leased.
func TestALostTaskIsForgotten(t *testing.T) {
	s := open(t)
	for _, task := range []string{"lost", "kept"} {
		e := &relay.Expectation{ExpectedTask: relay.ExpectedTask{Source: "vocals", TaskID: task, At: time.Now()}, Most: 10}
		if err := s.Expect(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	server.Do(t, "HDEL", t.Name()+":{vocals}:x:tasks", "lost")
	leased, _, err := s.LeaseTasks(t.Context(), &relay.TaskLease{Source: "vocals", Max: 10, For: time.Minute})
	if err != nil || len(leased) != 1 || leased[0].TaskID != "kept" {
		t.Errorf("leased %+v, %v", leased, err)
	}
	for _, set := range []string{"due", "late", "list"} {
		if names, _ := server.Do(t, "ZRANGE", t.Name()+":{vocals}:x:"+set, 0, -1).([]any); !slices.Equal(names, []any{"kept"}) {
			t.Errorf("%s has %v", set, names)
		}
	}
}
