// Package expect asks for the results of tasks whose callback has not come in time.
package expect

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// Accepted names the event that a recovered callback has become, or repeats.
type Accepted struct {
	Result  relay.Result
	EventID string // of the event that has its dedupe key
	Spooled bool   // it is durable in the spool, and not yet in the store
}

// Params are the dependencies of a poller.
type Params struct {
	// Accept accepts the callback of a task as its sender's, through the same door.
	Accept func(ctx context.Context, src *relay.Source, taskID string, body []byte) (Accepted, error)
	// Transport asks the details; nil: one of the poller's own.
	Transport http.RoundTripper
	// GaveUp is told of each task that is given up. It must not block.
	GaveUp  func(source string)
	Version string // sent in User-Agent
	Meter   *meter.Metrics
	Logger  func() *slog.Logger // of the current settings; it never blocks
}

// Poller polls the details of overdue tasks: one line for each source that recovers, so that details which hang hold up no
// other source. An idle line looks at what memory knows, and asks nobody.
type Poller struct {
	params Params
	client *http.Client
	own    *http.Transport // nil where it is not the poller's own
	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup

	mu      sync.Mutex
	store   relay.TaskStore // nil before it is open
	sources map[string]*relay.Source
	lines   map[string]*line
	stopped bool
}

// New returns a poller that does nothing before Run and Configure.
func New(p Params) *Poller {
	poller := &Poller{params: p, lines: map[string]*line{}}
	if p.Transport == nil {
		poller.own = newTransport()
		p.Transport = poller.own
	}
	poller.client = newClient(p.Transport)
	poller.ctx, poller.cancel = context.WithCancel(context.Background())
	return poller
}

// Run lets it poll the tasks of a store from now on.
func (p *Poller) Run(store relay.TaskStore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store = store
	p.adjust()
}

// Configure sets the sources whose tasks are polled: those of them that recover.
func (p *Poller) Configure(sources map[string]*relay.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources = sources
	p.adjust()
}

// adjust starts and stops lines. The caller holds mu.
func (p *Poller) adjust() {
	if p.store == nil || p.stopped {
		return
	}
	for name, l := range p.lines {
		if src := p.sources[name]; src == nil || src.Recover == nil {
			l.cancel()
			delete(p.lines, name)
		}
	}
	for name, src := range p.sources {
		if src.Recover == nil {
			continue
		}
		l := p.lines[name]
		if l != nil {
			l.source.Store(src)
			l.rouse()
			continue
		}
		l = &line{params: p.params, client: p.client, store: p.store, name: name, news: make(chan struct{}, 1)}
		l.source.Store(src)
		ctx, cancel := context.WithCancel(p.ctx)
		l.cancel = cancel
		p.lines[name] = l
		p.loops.Go(func() { l.run(ctx) })
	}
}

// Rouse has the line of a source look whether something is due.
func (p *Poller) Rouse(source string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lines[source]; l != nil {
		l.rouse()
	}
}

// Stop ends all polls and waits for them. A task whose poll has not ended is polled again when its lease has.
func (p *Poller) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.loops.Wait()
	if p.own != nil {
		p.own.CloseIdleConnections()
	}
}

// line polls the tasks of one source.
type line struct {
	params Params
	client *http.Client
	store  relay.TaskStore
	name   string
	source atomic.Pointer[relay.Source]
	news   chan struct{} // capacity 1: something has changed
	cancel context.CancelFunc

	polls sync.WaitGroup

	mu       sync.Mutex
	inFlight int
	again    int    // questions in a row that were refused for now
	refusal  string // why the last question was refused for good; empty if it was not
}

func (l *line) rouse() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// lookEvery bounds how long a line sleeps. It then looks at what memory knows, which may be another gateway's doing.
const lookEvery = 5 * time.Second

// run polls until ctx ends, and waits for the polls under way.
func (l *line) run(ctx context.Context) {
	defer l.polls.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.news:
		case <-timer.C:
		}
		timer.Reset(min(l.guarded(ctx), lookEvery))
	}
}
