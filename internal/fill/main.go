// Command fill writes many events into a store, as a gateway with these sources would have over three days, and much faster:
//
//	music    one delivery to shop, delivered
//	failed   one to gone, a dead letter
//	backlog  one to later, which is paused
//	rare     as music, one event in 100,000
//
// The benchmark fills stores with it before it starts a gateway on them.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

const (
	batch   = 250 // events that are written together
	oneRare = 100_000
	age     = 72 * time.Hour // of the oldest event
)

func main() {
	var f filling
	store := flag.String("store", "sqlite", "sqlite or redis")
	at := flag.String("at", "", "the file, or the address of Redis")
	flag.IntVar(&f.events, "events", 1000, "events in all")
	flag.IntVar(&f.dead, "dead", 0, "how many of them are dead letters")
	flag.IntVar(&f.waiting, "waiting", 0, "how many of them wait for a paused destination")
	flag.IntVar(&f.tasks, "tasks", 0, "expected tasks beside them")
	mark := flag.String("mark", "", "what stands for the task id in the body")
	flag.Parse()
	f.mark = []byte(*mark)
	if err := run(&f, *store, *at); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

// run reads the body of a callback from standard input, and fills a store.
func run(f *filling, store, at string) (err error) {
	if f.body, err = io.ReadAll(os.Stdin); err != nil {
		return err
	}
	ctx := context.Background()
	if f.store, err = open(ctx, store, at); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	return f.fill(ctx)
}

func open(ctx context.Context, store, at string) (relay.Store, error) {
	switch store {
	case "sqlite":
		return sqlitestore.Open(ctx, sqlitestore.Options{Path: at, MinFree: 1})
	case "redis":
		return redisstore.Open(ctx, redisstore.Options{Addresses: []string{at}, Timeout: 10 * time.Second})
	}
	return nil, fmt.Errorf("store %q: expected sqlite or redis", store)
}

// filling holds what is to be written, and where.
type filling struct {
	store                        relay.Store
	events, dead, waiting, tasks int
	body, mark                   []byte
}

func (f *filling) fill(ctx context.Context) error {
	if err := f.store.Pause(ctx, "backlog", "later", true); err != nil {
		return err
	}
	first := time.Now().Add(-age)
	var settles []*relay.Settle
	for n := 0; n < f.events || len(settles) > 0; {
		b := &relay.Batch{Settles: settles}
		for range min(batch, f.events-n) {
			b.Accepts = append(b.Accepts, f.accept(n, first.Add(time.Duration(float64(age)*float64(n)/float64(f.events)))))
			n++
		}
		f.store.Apply(ctx, b)
		var err error
		if settles, err = settle(b); err != nil {
			return err
		}
	}
	for n := range f.tasks {
		if err := f.store.Expect(ctx, &relay.Expectation{
			ExpectedTask: relay.ExpectedTask{Source: "music", TaskID: fmt.Sprintf("expected-%d", n), API: "/v1/music", At: time.Now()},
			After:        24 * time.Hour, Most: f.tasks,
		}); err != nil {
			return err
		}
	}
	return nil
}

// accept returns the accept of an event. Those of each kind are spread evenly over all.
func (f *filling) accept(n int, received time.Time) *relay.Accept {
	source, to := "music", relay.NewDelivery{Destination: "shop", LeaseFor: time.Minute}
	switch place := n * 7919 % f.events; { // a prime, so that neighbours differ
	case place < f.dead:
		source, to.Destination = "failed", "gone"
	case place < f.dead+f.waiting:
		source, to.Destination, to.LeaseFor = "backlog", "later", 0
	case n%oneRare == 1:
		source = "rare"
	}
	task := fmt.Sprintf("%016x%016x", received.UnixNano(), n)
	id := ulid.ULID{}
	_ = id.SetTime(ulid.Timestamp(received)) // fails for times that are no times
	hash := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(source), uint64(n)))
	_ = id.SetEntropy(hash[:10])
	return &relay.Accept{
		Window: age, Deliveries: []relay.NewDelivery{to},
		Event: &relay.Event{
			ID: id.String(), Source: source, TaskID: task, Stage: "complete", Code: "200",
			Key: hash, Fingerprint: hash, Origin: relay.OriginCallback, ReceivedAt: received,
			Body:    bytes.Replace(f.body, f.mark, []byte(task), 1),
			Headers: relay.Headers{"content-type": "application/json", "user-agent": "fill"},
		},
	}
}

// settle returns the settles of what a batch has leased.
func settle(b *relay.Batch) (settles []*relay.Settle, err error) {
	for _, op := range b.Settles {
		err = errors.Join(err, op.Err)
	}
	for _, op := range b.Accepts {
		err = errors.Join(err, op.Err)
		for _, l := range op.Leased {
			s := &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: &relay.Attempt{At: time.Now(), Status: 200}}
			if l.Destination == "gone" {
				s.Outcome, s.Attempt.Status = relay.OutcomeDead, 410
			}
			settles = append(settles, s)
		}
	}
	return settles, err
}
