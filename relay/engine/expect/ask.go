package expect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
)

// askWithin bounds one question, the reading of its answer included.
const askWithin = 30 * time.Second

// newTransport returns a transport for questions. Its addresses are the operator's own words, so that private ones are fine.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: askWithin,
	}
}

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: askWithin,
		// A redirect would take the key elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// address returns where the details of a task are, and the API by which they are judged. ok is false if the provider has none.
func address(reader relay.DetailsReader, r *relay.Recovery, t *relay.ExpectedTask) (target *url.URL, api string, ok bool) {
	if r.Details != nil {
		u := *r.Details
		q := u.Query()
		q.Set("taskId", t.TaskID)
		u.RawQuery = q.Encode()
		if api = t.API; api == "" {
			api = strings.Trim(u.Path, "/")
		}
		return &u, api, true
	}
	path, ok := reader.DetailsPath(t.API, t.TaskID)
	if !ok || r.Base == nil {
		return nil, "", false
	}
	below, err := url.Parse(path)
	if err != nil {
		return nil, "", false
	}
	u := r.Base.JoinPath(below.Path)
	u.RawQuery = below.RawQuery
	return u, t.API, true
}

// postBody returns what is to be POSTed to the target for a task; nil: it is asked by GET.
func postBody(reader relay.DetailsReader, target *url.URL, taskID string) []byte {
	if poster, ok := reader.(relay.DetailsPoster); ok {
		return poster.DetailsBody(target.Path, taskID)
	}
	return nil
}

// ask sends a question and reads its answer, up to most bytes. Errors name neither the address, which may hold a key, nor
// anything that the provider sent.
func ask(ctx context.Context, client *http.Client, target *url.URL, posted []byte, header http.Header, version string, most int64) (status int, body []byte, err error) {
	method := http.MethodGet
	if posted != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(posted))
	if err != nil {
		return 0, nil, errors.New("the address of the details is not one")
	}
	if posted != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "caddy-relay/"+version)
	req.Header.Set("Accept", "application/json")
	maps.Copy(req.Header, header)
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, errors.New(cause.Of(err))
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return 0, nil, errors.New("the answer breaks off: " + cause.Of(err))
	case int64(len(body)) > most:
		return 0, nil, fmt.Errorf("the answer is larger than %d bytes", most)
	}
	return res.StatusCode, body, nil
}
