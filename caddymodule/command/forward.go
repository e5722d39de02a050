package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

const (
	// forwardTimeout is a destination's default.
	forwardTimeout = 15 * time.Second
	// maxCallback is more than any source takes.
	maxCallback = 64 << 20
)

// forwarder posts events to a URL as a destination would get them.
type forwarder struct {
	gateway *client
	to      string
	http    *http.Client
}

func newForwarder(gateway *client, to string) (*forwarder, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--forward %q: expected a URL such as http://localhost:3000/callbacks", to)
	}
	return &forwarder{gateway: gateway, to: to, http: &http.Client{
		Timeout:       forwardTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableCompression: true}, // without a proxy
	}}, nil
}

func (f *forwarder) close() { f.http.CloseIdleConnections() }

// forward posts one event, and returns what came of it as a line for people.
func (f *forwarder) forward(ctx context.Context, e *api.StreamEvent) string {
	status, took, err := f.post(ctx, e)
	if err != nil {
		return fmt.Sprintf("%s is not forwarded: %v", e.EventID, err)
	}
	return fmt.Sprintf("%s forwarded: %d %s (%d ms)", e.EventID, status, http.StatusText(status), took.Milliseconds())
}

func (f *forwarder) post(ctx context.Context, e *api.StreamEvent) (status int, took time.Duration, err error) {
	source, err := f.gateway.send(ctx, f.gateway.answerWithin, http.MethodGet, api.BodyPath(e.EventID), nil, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = source.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(source.Body, maxCallback))
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.to, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	for name, value := range map[string]string{
		"User-Agent":        "caddy-relay/" + api.Version(debug.ReadBuildInfo()),
		"Webhook-Id":        e.EventID,
		"Webhook-Timestamp": strconv.FormatInt(time.Now().Unix(), 10),
		"Relay-Source":      e.Source,
		"Relay-Task-Id":     e.TaskID,
		"Relay-Attempt":     "1",
	} {
		req.Header.Set(name, value)
	}
	if contentType := source.Header.Get(api.HeaderContentType); contentType != "" { // a callback may have none
		req.Header.Set("Content-Type", contentType)
	}
	start := time.Now()
	res, err := f.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return 0, 0, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	return res.StatusCode, time.Since(start), res.Body.Close()
}
