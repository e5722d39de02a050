package powercut

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recordStore has a gateway with the embedded store work: it makes its folders and files, accepts, delivers, retries, gives
// up, stops, and is killed in the middle of syncs.
func recordStore(t *testing.T) *recording {
	t.Helper()
	consumer := newConsumer(t)
	g := newGateway(t)
	g.configure("\t\tstore sqlite", `	relay /callbacks vocals {
		to good `+consumer.URL+`/good {
			max_in_flight 16
		}
		to moody `+consumer.URL+`/moody {
			max_in_flight 8
			retry 20ms 50ms
			breaker off
		}
	}`)
	l := newLoad()
	g.makeFolder("caddy") // as Caddy does when it starts, but sometimes only after the store has
	g.start(0)
	l.send(g, 300, nil)
	g.stop()
	for range 2 {
		g.start(10 * time.Millisecond)
		l.send(g, 1000, func(answered int) {
			if answered == 60 {
				g.signal(syscall.SIGKILL)
			}
		})
		g.ended()
	}
	g.start(0)
	l.send(g, 100, nil)
	g.stop()
	return recordingOf(g, l)
}

func TestStore(t *testing.T) {
	r := recordStore(t)
	stored := judge{slots: map[string]int{"good": 16, "moody": 8}}
	r.check(100, stored.verdict)

	// The test finds losses where there are any: if the log were not synced, as with synchronous=NORMAL, or folders were not.
	t.Setenv("TMPDIR", t.TempDir()) // nobody needs to look at them
	for what, ignore := range map[string]func(name string, folder bool) bool{
		"log":    func(name string, _ bool) bool { return strings.HasSuffix(name, "-wal") },
		"folder": func(_ string, folder bool) bool { return folder },
	} {
		r.ignore = ignore
		if losses := r.cut(25, stored.verdict); len(losses) == 0 {
			t.Errorf("no %s is synced, and nothing is lost", what)
		}
	}
}

// A log that is long is copied into the database beside the writer, and begun anew once it is too long.
func TestLongLog(t *testing.T) {
	if os.Getenv("RELAY_POWER_CUTS") == "" {
		t.Skip("each cut takes long; set RELAY_POWER_CUTS to their number")
	}
	consumer := newConsumer(t)
	g := newGateway(t)
	g.configure("\t\tstore sqlite", `	relay /callbacks vocals {
		to good `+consumer.URL+`/good {
			max_in_flight 16
		}
	}`)
	l := newLoad()
	l.body = func(n int) string {
		return fmt.Sprintf(`{"code":200,"data":{"task_id":"%s"},"msg":"%s"}`, task(n), strings.Repeat("x", 500<<10))
	}
	g.start(0)
	l.send(g, 200, nil)
	g.stop()
	recordingOf(g, l).check(0, judge{slots: map[string]int{"good": 16}}.verdict)
}
