package command

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// pipes is a listener whose connections are within the process, so that a test's time need not pass.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// callTo returns what asks an admin endpoint that is served by a function.
func callTo(t *testing.T, serve http.HandlerFunc) *call {
	t.Helper()
	listener := make(pipes)
	server := &http.Server{Handler: serve}
	go func() { _ = server.Serve(listener) }()
	c := &client{address: "gateway:2019", origin: "http://gateway:2019", answerWithin: answerWithin, stepWithin: stepWithin, http: &http.Client{
		Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			listener <- there
			return here, nil
		}},
	}}
	t.Cleanup(func() {
		c.close()
		_ = server.Close()
		synctest.Wait()
	})
	return &call{client: c}
}

// A gateway that hangs is given up, before its answer and within it, and one that is slow is not.
func TestSilence(t *testing.T) {
	const pause = answerWithin - time.Second
	speak := func(w http.ResponseWriter, text string) {
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	rest := func(r *http.Request, d time.Duration) {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	}
	for name, serve := range map[string]http.HandlerFunc{
		"at once": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"midway":  func(w http.ResponseWriter, r *http.Request) { speak(w, `{"store":`); <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				_, err := callTo(t, serve).get(t.Context(), api.PathStatus, nil)
				if _, silent := errors.AsType[*silence](err); !silent || !strings.Contains(err.Error(), "the Caddy at gateway:2019 says nothing for 30s") {
					t.Errorf("error %v", err)
				}
				if took := time.Since(begun); took != answerWithin {
					t.Errorf("given up after %s", took)
				}
			})
		})
	}
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := callTo(t, func(w http.ResponseWriter, r *http.Request) {
				for _, part := range []string{"{", `"store":{}`, "}"} {
					rest(r, pause)
					speak(w, part)
				}
			})
			if got, err := c.get(t.Context(), api.PathStatus, nil); err != nil || string(got) != `{"store":{}}` {
				t.Errorf("%s, %v", got, err)
			}
		})
	})
	t.Run("in bulk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			steps := 3
			c := callTo(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client is gone
				w.Header().Set("Content-Type", api.ProgressType)
				for range steps {
					rest(r, stepWithin-time.Second)
					speak(w, "{\"progress\":1}\n")
				}
				if steps > 0 {
					speak(w, "{\"redriven\":1}\n")
					return
				}
				<-r.Context().Done()
			})
			if got, err := c.bulk(t.Context(), api.PathRedrive, struct{}{}, "", 0); err != nil || string(got) != `{"redriven":1}` {
				t.Errorf("%s, %v", got, err)
			}
			steps = 0
			_, err := c.bulk(t.Context(), api.PathRedrive, struct{}{}, "", 0)
			if _, silent := errors.AsType[*silence](err); !silent {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("of an export", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := callTo(t, func(w http.ResponseWriter, r *http.Request) {
				speak(w, "{}\n{}\n")
				<-r.Context().Done()
			})
			reader, writer := io.Pipe()
			c.out = writer
			go func() {
				<-time.After(2 * stepWithin) // as a pager does; that is not the gateway's silence
				_, _ = io.Copy(io.Discard, reader)
			}()
			begun := time.Now()
			err := export(t.Context(), c, nil)
			if _, silent := errors.AsType[*silence](err); !silent || time.Since(begun) != 3*stepWithin {
				t.Errorf("error %v after %s", err, time.Since(begun))
			}
			_ = writer.Close()
		})
	})
	t.Run("of a stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pings := 3
			c := callTo(t, func(w http.ResponseWriter, r *http.Request) {
				for range pings {
					speak(w, ":\n\n")
					rest(r, pause)
				}
				<-r.Context().Done()
			})
			begun := time.Now()
			connected, err := (&tail{call: c}).connect(t.Context())
			if _, silent := errors.AsType[*silence](err); !silent || !connected || time.Since(begun) != 2*pause+answerWithin {
				t.Errorf("error %v after %s", err, time.Since(begun))
			}
		})
	})
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := callTo(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.get(ctx, api.PathStatus, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	})
}
