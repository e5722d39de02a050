package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// maxAnswer bounds the answers that are read as a whole. A page of events without payloads, or one event, is far below it.
const maxAnswer = 512 << 20

// client asks Caddy's admin endpoint.
type client struct {
	address string // as messages name it
	origin  string // of the URLs, and as a header
	socket  bool   // the endpoint is on a Unix socket or a file descriptor
	http    *http.Client

	answerWithin, stepWithin time.Duration
}

// newClient returns the client for the admin endpoint that the flags --address, --config and --adapter name, in the way of
// Caddy's own commands. Nothing is connected yet.
func newClient(cmd *cobra.Command) (*client, error) {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), nil, flags.String("config"), flags.String("adapter"))
	if err != nil {
		return nil, fmt.Errorf("finding the admin endpoint: %w", err)
	}
	parsed, err := caddy.ParseNetworkAddress(address)
	if err == nil && parsed.PortRangeSize() > 1 {
		err = errors.New("expected one port")
	}
	if err != nil {
		return nil, fmt.Errorf("the admin address %q is not one: %w", address, err)
	}
	dialTo, origin := parsed.JoinHostPort(0), "http://"+parsed.JoinHostPort(0)
	socket := parsed.IsUnixNetwork() || parsed.IsFdNetwork()
	if socket {
		dialTo, _, _ = strings.Cut(parsed.Host, "|") // what follows are the permissions of the socket
		origin = "http://127.0.0.1"                  // a URL needs a host, and Caddy takes any on a socket
	}
	return &client{address: address, origin: origin, socket: socket, answerWithin: answerWithin, stepWithin: stepWithin, http: &http.Client{
		// The admin API redirects nobody.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, parsed.Network, dialTo)
		}},
	}}, nil
}

// close ends the connections that wait for another request.
func (c *client) close() { c.http.CloseIdleConnections() }

// answeredError is an answer of the admin endpoint that is not a success.
type answeredError struct {
	status int
	error
}

// send asks the gateway, and returns its answer, which is a success. It gives up when the gateway says nothing for within, before
// the answer or while that is being read. The caller closes the body.
func (c *client) send(ctx context.Context, within time.Duration, method, path string, query url.Values, header http.Header, body io.Reader) (_ *http.Response, err error) {
	ctx, attended := c.attend(ctx, within)
	defer func() {
		if err != nil {
			attended.release()
		}
	}()
	target := c.origin + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if !c.socket { // on which Caddy refuses each origin that it was not told to allow
		req.Header.Set("Origin", c.origin) // an endpoint with enforce_origin asks for it
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	attended.ReadCloser, res.Body = res.Body, attended
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	return nil, c.refused(res)
}

// unreachable explains why there is no answer.
func (c *client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL, which people have not typed
	}
	return fmt.Errorf("cannot reach Caddy's admin endpoint at %s: %w (is Caddy running, and is --address its admin address?)", c.address, err)
}

// refused returns the error that an answer is.
func (c *client) refused(res *http.Response) error {
	var body api.Error
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	switch {
	case err == nil && body.Message != "":
		return &answeredError{res.StatusCode, &body}
	case res.StatusCode == http.StatusNotFound:
		return &answeredError{res.StatusCode, fmt.Errorf("the Caddy at %s has no such route; is it built with Caddy Relay, in this version?", c.address)}
	case err == nil && body.Code != "": // Caddy's own answers, as to an origin that it does not allow
		return &answeredError{res.StatusCode, fmt.Errorf("the Caddy at %s answers %d: %s", c.address, res.StatusCode, body.Code)}
	}
	return &answeredError{res.StatusCode, fmt.Errorf("the Caddy at %s answers %s", c.address, res.Status)}
}

// get reads an answer as it came.
func (c *client) get(ctx context.Context, path string, query url.Values) (json.RawMessage, error) {
	return c.ask(ctx, http.MethodGet, path, query, nil, nil)
}

// clock returns the time by the gateway's clock, which may differ from this machine's, in whole seconds.
func (c *client) clock(ctx context.Context) (time.Time, error) {
	res, err := c.send(ctx, c.answerWithin, http.MethodHead, api.PathStatus, nil, nil, nil)
	if err != nil {
		return time.Time{}, err
	}
	_ = res.Body.Close()
	now, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return now, fmt.Errorf("the answer of the Caddy at %s has no date: %w", c.address, err)
	}
	return now, nil
}

// post sends a body as JSON and reads the answer.
func (c *client) post(ctx context.Context, path string, body any) (json.RawMessage, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, http.MethodPost, path, nil, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(encoded))
}

// ask sends a request and reads its answer to the end.
func (c *client) ask(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (json.RawMessage, error) {
	res, err := c.send(ctx, c.answerWithin, method, path, query, header, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return c.readAll(ctx, res.Body)
}

func (c *client) readAll(ctx context.Context, body io.Reader) (json.RawMessage, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		if why := givenUp(ctx, err); why != nil {
			return nil, why
		}
		return nil, fmt.Errorf("the answer of the Caddy at %s breaks off: %w", c.address, err)
	}
	return answer, nil
}

// decode reads an answer into a value. Fields that are unknown come from a newer gateway, and are left out.
func decode[T any](answer json.RawMessage, err error) (v T, _ error) {
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		return v, fmt.Errorf("the answer is not what this version of the command expects: %w", err)
	}
	return v, nil
}
