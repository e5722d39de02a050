// Package fakeprovider simulates the asynchronous audio and media APIs of suno and kie, for development and tests: it takes
// submissions, calls back, answers questions about tasks and serves their files.
//
// What becomes of a task is its Fate. Everything else is derived from a seed, so that two runs are alike.
package fakeprovider

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultDelay    = 20 * time.Second
	DefaultTimeout  = 15 * time.Second
	DefaultFileSize = 256 << 10
)

// Retries are the delays after which a callback is sent again that was not answered by a 200 in time.
var Retries = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}

// Options are the settings of a Server. The zero value is of use.
type Options struct {
	Listen string // default: a free port of 127.0.0.1
	Key    string // the bearer key that requests must have; empty: any
	Seed   uint64
	// Speed is how many times faster than with the provider Delay, Fate.Late and Retries pass. Default 1.
	Speed    float64
	Delay    time.Duration // from a submission to its result
	Timeout  time.Duration // of a callback, whatever the speed
	FileSize int64         // in bytes
	// Fate decides what becomes of the nth task, counted from 0, unless its submission has a fate of its own. Default: a
	// success that is called back once.
	Fate func(n uint64) Fate
	// Client calls back. Default: one that follows no redirect.
	Client *http.Client
	// Log is called after every callback, by several goroutines at a time. It may be nil.
	Log func(taskID string, c Callback)
}

// Server is a simulated provider. It is safe for concurrent use.
type Server struct {
	URL string // without a slash at its end

	opts Options
	http http.Server
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	count uint64
	order []*task
	tasks map[string]*task // by endpoint of the details and id
	files map[string]*task // by path
}

// Start starts a server, which runs until Close.
func Start(opts Options) (*Server, error) {
	opts.Listen = cmp.Or(opts.Listen, "127.0.0.1:0")
	opts.Speed = cmp.Or(opts.Speed, 1)
	opts.Delay = cmp.Or(opts.Delay, DefaultDelay)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultTimeout)
	opts.FileSize = cmp.Or(opts.FileSize, DefaultFileSize)
	if opts.Client == nil {
		opts.Client = &http.Client{
			Transport:     http.DefaultTransport.(*http.Transport).Clone(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if opts.Fate == nil {
		opts.Fate = func(uint64) Fate { return Fate{} }
	}
	ln, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + ln.Addr().String(), opts: opts, tasks: make(map[string]*task), files: make(map[string]*task)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	for i := range apis {
		a := &apis[i]
		for _, path := range a.submits {
			mux.HandleFunc("POST /api/v1/"+path, func(w http.ResponseWriter, r *http.Request) { s.submit(w, r, a) })
		}
		if a.details != again4K {
			mux.HandleFunc("GET /api/v1/"+a.details, func(w http.ResponseWriter, r *http.Request) { s.details(w, r, a) })
		}
	}
	mux.HandleFunc("GET /files/{task}/{name}", s.file)
	s.http = http.Server{Handler: s.counted(mux), ReadHeaderTimeout: time.Minute}
	s.wg.Go(func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // nothing else closes the listener
		}
	})
	return s, nil
}

// Close stops the server, its callbacks and its downloads, and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	_ = s.http.Close() // everything that is under way ends here
	s.wg.Wait()
	s.opts.Client.CloseIdleConnections()
}

// counted returns a handler of which Close awaits the requests.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.ctx.Err() != nil {
			s.mu.Unlock()
			panic(http.ErrAbortHandler) // the connection is closed anyway
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		next.ServeHTTP(w, r)
	})
}

// wait waits as long as d takes at the server's speed. It reports whether the server still runs.
func (s *Server) wait(d time.Duration) bool {
	timer := time.NewTimer(time.Duration(float64(d) / s.opts.Speed))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
