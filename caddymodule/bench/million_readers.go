package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

const (
	streamClients = 64
	lookedAgain   = 700 * time.Millisecond // after which an open dashboard asks for the status, while something happens
)

// readers compares accepts while somebody reads with accepts while nobody does.
func (m *many) readers() error {
	accepts := m.rate(m.gateway, "/backlog", m.callback, m.connections)
	what := fmt.Sprintf("%s, %d events: accepts while ", m.kind, m.events)
	if err := m.compare(what+"all are listed, 500 a page", "≥ 0.9", accepts, contender{"", beside(accepts, m.walk)}); err != nil {
		return err
	}
	if err := m.compare(what+"all are exported", "≥ 0.9", accepts, contender{"", beside(accepts, m.export)}); err != nil {
		return err
	}
	work := []func(context.Context) error{m.watch}
	for range streamClients {
		work = append(work, m.stream)
	}
	return m.compare(fmt.Sprintf("%s%d clients read the stream, and one the dashboard", what, streamClients), "≥ 0.95", accepts,
		contender{"", beside(accepts, work...)})
}

// beside runs a side while others work, each until its context ends.
func beside(run side, work ...func(context.Context) error) side {
	return func() (s sample, err error) {
		ctx, cancel := context.WithCancel(context.Background())
		var working sync.WaitGroup
		failed := make([]error, len(work)+1)
		for i, w := range work {
			working.Go(func() {
				if err := w(ctx); ctx.Err() == nil {
					failed[i] = errors.Join(errors.New("a reader ended early"), err)
				}
			})
		}
		s, failed[len(work)] = run()
		cancel()
		working.Wait()
		return s, errors.Join(failed...)
	}
}

// walk reads page after page, from the newest event to the oldest and again.
func (m *many) walk(ctx context.Context) error {
	cursor := ""
	for ctx.Err() == nil {
		p, err := m.page("/relay/events?limit=500&cursor=" + url.QueryEscape(cursor))
		if err != nil {
			return err
		}
		cursor = p.Next
	}
	return nil
}

// export reads all events, again and again.
func (m *many) export(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.drain(ctx, "/relay/events.jsonl"); err != nil {
			return err
		}
	}
	return nil
}

func (m *many) stream(ctx context.Context) error { return m.drain(ctx, "/relay/stream") }

// drain reads an answer to its end.
func (m *many) drain(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.admin)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, m.admin); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 64<<10))
	return err
}

// watch asks for what an open dashboard asks for.
func (m *many) watch(ctx context.Context) error {
	again := time.NewTicker(lookedAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if _, err := read("http://" + m.address + "/dash/api/status"); err != nil {
				return err
			}
		}
	}
}

// redrive has two operators redrive all dead letters at once, and shows that each is moved once.
func (m *many) redrive(dead int) error {
	if err := m.pause("failed", "gone"); err != nil {
		return err
	}
	accepts := m.rate(m.gateway, "/backlog", m.callback, m.connections)
	before, err := accepts()
	if err != nil {
		return err
	}
	var moved [2]struct {
		Redriven int `json:"redriven"`
	}
	var failed [2]error
	var took time.Duration
	operators := make(chan struct{})
	go func() {
		defer close(operators)
		begun := time.Now()
		var working sync.WaitGroup
		for i := range moved {
			working.Go(func() { failed[i] = m.post("/relay/dead-letters/redrive", `{"source":"failed"}`, &moved[i]) })
		}
		working.Wait()
		took = time.Since(begun)
	}()
	meanwhile, err := accepts()
	<-operators
	if err := errors.Join(err, failed[0], failed[1]); err != nil {
		return err
	}
	after, err := accepts()
	if err != nil {
		return err
	}
	m.addSamples(fmt.Sprintf("%s, %d events: accepts while two operators redrive", m.kind, m.events), "", []sample{{
		rate: (before.rate + after.rate) / 2, cpu: (before.cpu + after.cpu) / 2,
	}}, []sample{meanwhile})
	m.consumer.keepLedger()
	if err := m.post("/relay/destinations/failed/gone/resume", "", nil); err != nil {
		return err
	}
	if err := m.poll(5*time.Minute, func() (bool, error) {
		n, err := m.settled("failed")
		return n >= dead, err
	}); err != nil {
		return fmt.Errorf("%d dead letters redriven, %d arrived: %w", moved[0].Redriven+moved[1].Redriven, m.consumer.distinct(), err)
	}
	m.tell(fmt.Sprintf("%d dead letters redriven by two at once", dead), fmt.Sprintf("%d and %d in %.1f s; %d attempts, %d events arrived",
		moved[0].Redriven, moved[1].Redriven, took.Seconds(), m.consumer.count.Load(), m.consumer.distinct()), "each once")
	if moved[0].Redriven+moved[1].Redriven != dead || int(m.consumer.count.Load()) != dead || m.consumer.distinct() != dead {
		return errors.New("not every dead letter was moved exactly once")
	}
	return nil
}
