package powercut

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A file that the store says is in the archive is there as a whole.
func TestArchive(t *testing.T) {
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(filepath.Base(r.URL.Path))
		random := rand.New(rand.NewPCG(uint64(n), 0))
		content := make([]byte, 1+random.IntN(100<<10))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(files.Close)
	consumer := newConsumer(t)
	g := newGateway(t)
	g.configure("\t\tstore sqlite", `	relay /callbacks vocals {
		to good `+consumer.URL+`/good {
			body archived
		}
		archive file `+filepath.Join(g.data(), "archive", "vocals")+` {
			hosts 127.0.0.1
			insecure
			url_prefix https://archive.example.com
		}
	}`)
	l := newLoad()
	l.body = func(n int) string {
		return fmt.Sprintf(`{"code":200,"data":{"task_id":"%s","vocal_removal_info":{"instrumental_url":"%s/%d","vocal_url":"%s/%d"}}}`,
			task(n), files.URL, 2*n, files.URL, 2*n+1)
	}
	g.start(0)
	l.send(g, 40, nil)
	g.wait("all files are in the archive", func() bool { return consumer.has() == len(l.answered) })
	g.stop()
	recordingOf(g, l).check(25, judge{slots: map[string]int{"good": 16}, also: judgeArchive}.verdict)
}

// judgeArchive compares the archive with what the store says about it.
func judgeArchive(folder string, s relay.Store, events map[string]*relay.EventRecord) error {
	var lost []error
	for id, e := range events {
		d := deliveryTo(e, relay.ArchiveName)
		if d == nil || d.State == relay.StateDead {
			lost = append(lost, fmt.Errorf("the files of event %s are given up: %+v", id, d))
			continue
		}
		e, err := s.Event(context.Background(), id)
		if err != nil {
			return err
		}
		if d.State == relay.StateDelivered && len(e.Files) != 2 {
			lost = append(lost, fmt.Errorf("event %s has the files %+v", id, e.Files))
		}
		for _, f := range e.Files {
			content, err := os.ReadFile(filepath.Join(folder, "archive", "vocals", filepath.FromSlash(f.Object)))
			if sum := sha256.Sum256(content); err == nil && hex.EncodeToString(sum[:]) != f.SHA256 {
				err = fmt.Errorf("%d other bytes", len(content))
			}
			if err != nil {
				lost = append(lost, fmt.Errorf("event %s has a file %+v, of which is there: %w", id, f, err))
			}
		}
	}
	return errors.Join(lost...)
}
