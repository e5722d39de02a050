package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// ackWithin is the gateways' `ack_within`; answerTolerance is what a busy machine may add.
const (
	ackWithin       = 3 * time.Second
	answerTolerance = 2 * time.Second
)

// sender sends callbacks at a steady rate, and insists on each as a provider would.
type sender struct {
	gateways []*gateway
	ledger   *ledger
	client   *http.Client
}

// shares are how many of a hundred callbacks go to each source.
var shares = []struct {
	source string
	of100  int
}{{plainSource, 64}, {orderedSource, 12}, {doomedSource, 8}, {rubbishSource, 8}, {movedSource, 8}}

func newSender(gateways []*gateway, l *ledger) *sender {
	return &sender{
		gateways: gateways, ledger: l,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: patience},
	}
}

// run sends until ctx ends, and returns when every sender has its answer or has given up. prefix makes the tasks distinct.
func (s *sender) run(ctx context.Context, prefix string, perSecond int) {
	const senders = 128
	jobs := make(chan int, senders)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for n := range jobs {
				s.send(ctx, prefix, n)
			}
		})
	}
	// Callbacks are counted by the clock: those that a ticker leaves out on a busy machine are made up for.
	begun := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; {
		for due := int(time.Since(begun).Seconds() * float64(perSecond)); n < due && ctx.Err() == nil; n++ {
			select {
			case jobs <- n:
			case <-ctx.Done():
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	close(jobs)
	sending.Wait()
}

// stages are those of a task whose callbacks have an order.
var stages = []string{"text", "first", "complete"}

// send sends the nth callback, or the three of an ordered task, each once the one before was answered.
func (s *sender) send(ctx context.Context, prefix string, n int) {
	c := callback{source: sourceOf(n), task: fmt.Sprintf("%s-%06d", prefix, n)}
	if c.source != orderedSource {
		s.insist(ctx, c, n)
		return
	}
	for _, c.stage = range stages {
		if !s.insist(ctx, c, n) {
			return
		}
	}
}

// sourceOf returns the source of the nth callback.
func sourceOf(n int) string {
	at := n * 37 % 100 // every source comes up early
	for _, share := range shares {
		if at < share.of100 {
			return share.source
		}
		at -= share.of100
	}
	return shares[0].source
}

// insist sends a callback until it is answered by 200; each twentieth goes to two gateways at once. The callbacks of an
// ordered task all go to one gateway: a spool is of one gateway, and so is the order of what went through it.
func (s *sender) insist(ctx context.Context, c callback, n int) bool {
	var second sync.WaitGroup
	defer second.Wait()
	if n%20 == 7 {
		second.Go(func() { s.try(ctx, c, s.gateways[(n+1)%len(s.gateways)]) })
	}
	for try := 0; ; try++ {
		g := s.gateways[n%len(s.gateways)]
		if c.source != orderedSource {
			g = s.gateways[(n+try)%len(s.gateways)]
		}
		if s.try(ctx, c, g) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// try sends a callback once, records the answer, and reports whether it is 200.
func (s *sender) try(ctx context.Context, c callback, g *gateway) bool {
	// What is under way at the end of the run is not cut off, so that its answer is known.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, "http://"+g.address+"/"+c.source, strings.NewReader(c.body()))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	// What the kernel needs for a connection is not the gateway's: a busy one drops and repeats its first packets.
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { begun = time.Now() },
	}))
	resp, err := s.client.Do(req)
	if err != nil {
		s.ledger.answer(c, 0, "", 0)
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took := time.Since(begun)
	if err != nil {
		s.ledger.answer(c, 0, "", 0)
		return false
	}
	s.ledger.answer(c, resp.StatusCode, resp.Header.Get("Relay-Event-Id"), took)
	s.ledger.checkAnswer(c, g.n, resp.StatusCode, text, begun, took)
	return resp.StatusCode == http.StatusOK
}

// checkAnswer checks that a gateway answered a callback by 200 or 503, and in time.
func (l *ledger) checkAnswer(c callback, gateway, status int, text []byte, begun time.Time, took time.Duration) {
	refused, late := status != http.StatusOK && status != http.StatusServiceUnavailable, took > ackWithin+answerTolerance
	if !refused && !late || l.suspended(gateway, begun) {
		return
	}
	if refused {
		l.violates("refused", "gateway %d answers %s %s: %d %s", gateway, c.source, c.task, status, text)
	}
	if late {
		l.violates("late", "gateway %d answered %s %s by %d after %s (sent %s after the start)", gateway, c.source, c.task, status, took, l.at(begun))
	}
}

func (s *sender) close() { s.client.CloseIdleConnections() }
