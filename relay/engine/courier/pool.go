package courier

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pool holds the idle connections to one host. The one that was used last is used next.
type pool struct {
	most int // how many are kept

	mu      sync.Mutex
	links   []*link
	current int         // the generation of the links that may be kept
	timer   *time.Timer // closes links that have been idle for too long; nil where there are none
	due     time.Time   // of the timer
}

// generation returns that of the connections that are opened now.
func (p *pool) generation() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// get returns a connection that can be used, and follows a context. It is nil where there is none.
func (p *pool) get(ctx context.Context, now time.Time) *link {
	for {
		p.mu.Lock()
		n := len(p.links) - 1
		if n < 0 {
			p.mu.Unlock()
			return nil
		}
		l := p.links[n]
		p.links[n] = nil
		p.links = p.links[:n]
		p.mu.Unlock()
		if now.Before(l.until) && l.follow(ctx) && l.quiet() {
			return l
		}
		l.close()
	}
}

// put keeps a connection that may be idle for a time, or closes it where it is not to be kept.
func (p *pool) put(l *link, now time.Time, idle time.Duration) {
	l.until = now.Add(idle)
	if l.old.Before(l.until) {
		l.until = l.old
	}
	p.mu.Lock()
	kept := now.Before(l.until) && l.generation == p.current && len(p.links) < p.most
	if kept {
		p.links = append(p.links, l)
		p.schedule(l.until)
	}
	p.mu.Unlock()
	if !kept {
		l.close()
	}
}

// clear closes all connections: idle ones now, and the others when they have served their request.
func (p *pool) clear() {
	p.mu.Lock()
	links := p.links
	p.links, p.current = nil, p.current+1
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// schedule has the timer fire at a time, unless it does so earlier.
func (p *pool) schedule(at time.Time) {
	switch {
	case p.timer == nil:
		p.timer = time.AfterFunc(time.Until(at), p.expire)
	case at.Before(p.due):
		p.timer.Reset(time.Until(at))
	default:
		return
	}
	p.due = at
}

// expire closes the connections that have been idle for too long.
func (p *pool) expire() {
	now := time.Now()
	var expired []*link
	p.mu.Lock()
	p.links = slices.DeleteFunc(p.links, func(l *link) bool {
		if now.Before(l.until) {
			return false
		}
		expired = append(expired, l)
		return true
	})
	p.timer = nil
	for _, l := range p.links {
		p.schedule(l.until)
	}
	p.mu.Unlock()
	for _, l := range expired {
		l.close()
	}
}
