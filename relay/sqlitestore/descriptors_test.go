//go:build unix

package sqlitestore

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/callbackrelay/caddy-relay/relay"
)

const inSubprocess = "RELAY_TEST_DESCRIPTORS"

// A process without a descriptor left takes callbacks as before: all that the store needs is open from the beginning.
func TestDescriptorsUsedUp(t *testing.T) {
	if os.Getenv(inSubprocess) == "" {
		// Other tests must not feel the limit.
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDescriptorsUsedUp$", "-test.v")
		cmd.Env = append(os.Environ(), inSubprocess+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	p := newPatient(t)
	p.fill(100)
	p.must(p.Close())
	p.open() // with a backlog, and nothing done yet
	p.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: 128}))
	var strangers []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		strangers = append(strangers, f)
	}
	p.fill(100)
	p.must(p.Pause(t.Context(), "vocals", "another", true))
	for _, page := range []relay.EventFilter{{}, {TaskID: "task-3"}, {State: relay.StatePending}} {
		_, _, err := p.Events(t.Context(), page)
		p.must(err)
	}
	for _, id := range p.ids {
		_, err := p.Event(t.Context(), id)
		p.must(err)
	}
	_, _, err := p.DeadLetters(t.Context(), relay.Selection{}, 10, "")
	p.must(err)
	_, err = p.Expire(t.Context(), "vocals", "search", time.Hour)
	p.must(err)
	_, err = p.Purge(t.Context(), relay.PurgePolicy{Retention: time.Hour, DeadLetterRetention: time.Hour})
	p.must(err)
	p.indexFrom = 1
	p.must(p.tendLog())
	p.must(p.findOldest())
	p.must(p.keepClock())
	p.must(p.db.Keeper.Pragma("wal_checkpoint(passive)"))
	p.must(p.truncateLog())
	p.tend()
	p.must(p.Health(t.Context()))
	// What is broken meanwhile is mended at the latest when there are descriptors again.
	p.must(os.Remove(p.path + "-wal"))
	if err := p.accept(newAccept("unlucky")); err == nil {
		t.Error("a callback is answered 200 into a log without a name")
	}
	p.tend()
	for _, f := range strangers {
		p.must(f.Close())
	}
	p.wantWell()
}
