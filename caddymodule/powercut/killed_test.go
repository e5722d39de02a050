package powercut

import (
	bin "encoding/binary"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// recordKilled has a gateway killed after it has written a callback and before it has synced it. The sender, who got no
// answer, sends it again to the next process, which finds it in the log and answers it as a duplicate.
func recordKilled(t *testing.T) *recording {
	t.Helper()
	done := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(done) })
	g := newGateway(t)
	g.configure("\t\tstore sqlite", `	relay /callbacks vocals {
		to good `+silent.URL+`/good
		to moody `+silent.URL+`/moody
	}`)
	l := newLoad()
	g.start(150 * time.Millisecond)
	log := filepath.Join(g.data(), "caddy", "relay", "relay.db-wal")
	l.sendOne(g, http.DefaultClient)
	before, last := size(log), int64(0)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		l.sendOne(g, http.DefaultClient)
	}()
	g.wait("the callback is in the log", func() bool {
		n := size(log)
		// Twice: strace, too, has to see the end of the write before the gateway is killed.
		whole := n > before && n == last && endsWithCommit(t, log)
		last = n
		return whole
	})
	g.signal(syscall.SIGKILL)
	g.ended()
	<-gone
	if len(l.again) != 1 {
		t.Fatal("the second callback was answered")
	}
	g.start(0)
	l.sendOne(g, http.DefaultClient)
	g.signal(syscall.SIGKILL)
	g.ended()
	if len(l.answered) != 2 {
		t.Fatalf("%d callbacks were answered; the gateway says %s", len(l.answered), g.log.String())
	}
	return recordingOf(g, l)
}

// endsWithCommit reports whether the last frame of a log is that of a commit: what SQLite does next is to sync it
// (https://sqlite.org/fileformat2.html#the_write_ahead_log).
func endsWithCommit(t *testing.T, name string) bool {
	t.Helper()
	const head, frameHead = 32, 24
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < head {
		return false
	}
	frame := frameHead + int(bin.BigEndian.Uint32(b[8:]))
	if len(b) == head || (len(b)-head)%frame != 0 {
		return false
	}
	pages := bin.BigEndian.Uint32(b[len(b)-frame+4:]) // of the database, after a commit; else 0
	return pages != 0
}

func size(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestKilledInSync(t *testing.T) {
	recordKilled(t).check(25, judge{slots: map[string]int{"good": 16, "moody": 16}}.verdict)
}
