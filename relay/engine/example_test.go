package engine_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/provider"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// An engine on a SQLite file accepts a callback of vocal separation and delivers it to one destination.
func Example() {
	deliveries := make(chan string, 1)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	consumer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			log.Print(err)
		}
		deliveries <- fmt.Sprintf("%s, attempt %s: %s", r.Header.Get("Relay-Task-Id"), r.Header.Get("Relay-Attempt"), body)
	}))
	defer consumer.Close()
	address, err := url.Parse(consumer.URL)
	if err != nil {
		log.Fatal(err)
	}

	folder, err := os.MkdirTemp("", "relay")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	gateway := engine.New(engine.Options{
		OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
			store, err := sqlitestore.Open(ctx, sqlitestore.Options{Path: filepath.Join(folder, "relay.db"), Logger: logger})
			if err != nil {
				return nil, err // not a nil *Store in a Store that is not nil
			}
			return store, nil
		},
	})
	if err := gateway.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer func() { _ = gateway.Close() }()

	source := &relay.Source{
		Name: "vocals", Provider: provider.Suno(), Dedupe: relay.DefaultDedupe, DedupeWindow: relay.DefaultDedupeWindow,
		MaxBody: relay.DefaultMaxBody, AckWithin: relay.DefaultAckWithin,
		Response: relay.Response{Status: http.StatusOK, Body: relay.DefaultResponse, ContentType: "application/json"},
		Destinations: []*relay.Destination{{
			Name: "billing", URL: address, Timeout: relay.DefaultTimeout, Retry: relay.DefaultRetry,
			MaxInFlight: relay.DefaultMaxInFlight, Expire: relay.DefaultExpire, Transport: transport,
		}},
		Logger: slog.New(slog.DiscardHandler),
	}
	gateway.Push(&relay.Settings{
		Sources:   map[string]*relay.Source{source.Name: source},
		Retention: relay.DefaultRetention, DeadLetterRetention: relay.DefaultDeadLetterRetention, Drain: relay.DefaultDrain,
	})

	callback := httptest.NewRequest(http.MethodPost, "/callbacks/vocals",
		strings.NewReader(`{"code":200,"data":{"task_id":"t-1","vocal_removal_info":{"vocal_url":"https://files.example/v.mp3"}}}`))
	callback.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	receipt := gateway.Receive(answer, callback, source, netip.MustParseAddr("203.0.113.7"))

	fmt.Println(receipt.Result, answer.Code, answer.Body)
	fmt.Println(<-deliveries)
	// Output:
	// accepted 200 {"status":"received"}
	// t-1, attempt 1: {"code":200,"data":{"task_id":"t-1","vocal_removal_info":{"vocal_url":"https://files.example/v.mp3"}}}
}
