package powercut

import (
	"syscall"
	"testing"
	"time"
)

// recordStore has a gateway with the embedded store work: it makes its folders and files, accepts, delivers, retries, gives
// up, stops, and is killed in the middle of syncs.
func recordStore(t *testing.T) *recording {
	t.Helper()
	consumer := newConsumer(t)
	g := newGateway(t, "\t\tstore sqlite", `	relay /callbacks vocals {
		to good `+consumer+`/good {
			max_in_flight 16
		}
		to moody `+consumer+`/moody {
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
	begin := time.Now()
	for _, loss := range r.cut(cuts(t), judgeStore) {
		t.Error(loss)
	}
	t.Log(time.Since(begin))
}
