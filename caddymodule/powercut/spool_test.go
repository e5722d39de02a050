package powercut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// A callback that is answered while Redis is away is in the spool until Redis has it.
func TestSpool(t *testing.T) {
	consumer := newConsumer(t)
	redis, err := servers.NewRedis(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t)
	g.configure("\t\tstore redis "+redis.Address+" {\n\t\t\tspool "+filepath.Join(g.data(), "spool", "spool.db")+"\n\t\t}", `	relay /callbacks vocals {
		to good `+consumer.URL+`/good
	}`)
	l := newLoad()
	g.start(0)
	l.send(g, 150, nil)
	g.stop()
	g.start(0)
	l.send(g, 50, nil)
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Kill)
	g.wait("half of the spool is drained", func() bool { return consumer.has() > 100 })
	g.signal(syscall.SIGKILL)
	g.ended()
	g.start(0)
	l.send(g, 50, nil)
	const leased = 16 // to the gateway that was killed, until that expires
	g.wait("the spool is drained", func() bool { return consumer.has() >= len(l.answered)-leased })
	g.stop()
	recordingOf(g, l).check(25, func(folder string, o *observed) error { return judgeSpool(folder, o, l) })
}

// judgeSpool opens the spool that a cut has left. Every callback that was answered and that was not sent to Redis must be in
// it, and it must take new ones.
func judgeSpool(folder string, o *observed, l *load) (err error) {
	path := filepath.Join(folder, "spool", "spool.db")
	spooled := map[string]bool{}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		s, err := spool.Open(context.Background(), spool.Options{Path: path})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close(), whole(path)) }()
		items, err := s.Next("vocals", 1000)
		if err != nil {
			return err
		}
		for _, item := range items {
			if item.Err != nil {
				return item.Err
			}
			spooled[item.Accept.Event.ID] = true
		}
		if err := s.Remove(items); err != nil {
			return err
		}
		if stat := s.Stat(); stat.Events != 0 || stat.Stuck != 0 || stat.Bytes != 0 {
			return fmt.Errorf("when all was taken from the spool it has %+v", stat)
		}
	}
	var lost []error
	for id := range o.answered {
		if !spooled[id] && !o.passed[task(l.answered[id])] {
			lost = append(lost, fmt.Errorf("event %s was answered and is neither in the spool nor in Redis", id))
		}
	}
	return errors.Join(lost...)
}
