package archive_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
)

// putter is a storage that is one function.
type putter func(r io.Reader) error

func (p putter) Put(_ context.Context, _ string, r io.Reader, _ int64, _ string) error { return p(r) }

// wire is a server and the way to it, without a network: its body comes in three parts.
type wire struct {
	header, part time.Duration // that the server needs
}

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := pause(req.Context(), w.header); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"audio/mpeg"}}, ContentLength: -1,
		Body: io.NopCloser(&parts{ctx: req.Context(), pause: w.part, left: 3}), Request: req,
	}, nil
}

type parts struct {
	ctx   context.Context
	pause time.Duration
	left  int
}

func (p *parts) Read(b []byte) (int, error) {
	if err := pause(p.ctx, p.pause); err != nil {
		return 0, err
	}
	if p.left == 0 {
		return 0, io.EOF
	}
	p.left--
	return copy(b, content(1000)), nil
}

// pause waits on the clock of a synctest bubble.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The time that a storage needs is not that of the server.
func TestStall(t *testing.T) {
	const short, long = archive.DefaultStall - time.Second, archive.DefaultStall + time.Second
	for name, c := range map[string]struct {
		server  wire
		storage time.Duration // that it works before each read
		stalls  bool
	}{
		"storage works":      {wire{}, long, false},
		"both need long":     {wire{short, short}, long, false},
		"header stalls":      {wire{long, 0}, 0, true},
		"body stalls":        {wire{0, long}, 0, true},
		"body stalls, too":   {wire{short, long}, long, true},
		"nobody needs long":  {wire{}, 0, false},
		"server needs short": {wire{short, short}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, _ := options(t)
				o.Stall = 0
				o.Storage = putter(func(r io.Reader) error {
					for {
						<-time.After(c.storage)
						if _, err := r.Read(make([]byte, 4096)); err != nil {
							if errors.Is(err, io.EOF) {
								return nil
							}
							return err
						}
					}
				})
				a := archive.New(o)
				archive.SetTransport(a, c.server)
				stored, err := a.Archive(t.Context(), event("http://127.0.0.1/a.mp3"), nil)
				switch {
				case c.stalls:
					if err == nil || err.Error() != field+": the server sent nothing for 30s" {
						t.Error(err)
					}
				case err != nil || len(stored) != 1 || stored[0].Size != 3000:
					t.Error(stored, err)
				}
			})
		})
	}
}

// A panic in a storage is its failure, and nobody else's: the process goes on, and so do later attempts.
func TestStoragePanics(t *testing.T) {
	o, _ := options(t)
	broken := true
	o.Storage = putter(func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		if broken {
			panic("no bucket")
		}
		return err
	})
	a := archive.New(o)
	ev := event(server(t, serve(content(10))) + "/a.mp3")
	for range archive.MaxFetches + 1 {
		stored, err := a.Archive(t.Context(), ev, nil)
		failed, ok := errors.AsType[*relay.ArchiveError](err)
		if !ok || len(stored) != 0 || failed.Failed != 1 || !failed.Storage || failed.Final || err.Error() != field+": the archive failed: panic: no bucket" {
			t.Fatalf("%v %+v", stored, err)
		}
	}
	broken = false
	if stored, err := a.Archive(t.Context(), ev, nil); err != nil || len(stored) != 1 {
		t.Error(stored, err)
	}
}
