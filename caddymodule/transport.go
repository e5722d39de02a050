package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
)

// transport loads the transport of a destination, each of which has connections of its own.
func (d *Destination) transport(ctx caddy.Context, dst *relay.Destination) (http.RoundTripper, error) {
	if d.TransportRaw == nil {
		d.TransportRaw = fmt.Appendf(nil, `{"protocol":"http","keep_alive":{"max_idle_conns_per_host":%d}}`, dst.MaxInFlight)
	}
	// What was configured, before provisioning adds Caddy's defaults to it, and forgets it. A mistake in it is reported by
	// LoadModule.
	raw := d.TransportRaw
	var configured struct {
		KeepAlive       reverseproxy.KeepAlive `json:"keep_alive"`
		NetworkProxy    json.RawMessage        `json:"network_proxy"`
		ForwardProxyURL string                 `json:"forward_proxy_url"`
	}
	_ = json.Unmarshal(raw, &configured)
	module, err := ctx.LoadModule(d, "TransportRaw")
	if err != nil {
		return nil, err
	}
	if err := checkTransport(module, dst.URL); err != nil {
		return nil, err
	}
	h, ok := module.(*reverseproxy.HTTPTransport)
	if !ok || slices.Contains(h.Versions, "3") {
		return outbound{module.(http.RoundTripper), caddy.NewReplacer()}, nil
	}
	if err := adjust(h); err != nil {
		return nil, err
	}
	idle := time.Duration(configured.KeepAlive.IdleConnTimeout)
	if isLean(raw, h, dst.URL) {
		client, err := courier.NewLean(h.Transport, dst.URL, idle)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx.Context, client.CloseIdleConnections)
		return client, nil
	}
	if configured.NetworkProxy == nil && configured.ForwardProxyURL == "" {
		noteProxy(ctx, dst)
	}
	connections := courier.NewConnections(h.Transport, idle)
	context.AfterFunc(ctx.Context, connections.CloseIdleConnections)
	return connections, nil
}

// leanOptions are the options that courier's lean client honours. A destination with any other keeps Caddy's transport,
// also if a later version of Caddy invents it.
var leanOptions = []string{
	"protocol", "resolver", "local_address", "dial_timeout", "dial_fallback_delay", "keep_alive", "versions", "compression",
	"max_response_header_size", "tls",
}

// isLean reports whether the lean client does all that is expected from the transport: HTTP/1.1 without a proxy. With TLS
// that is so only where the operator wants no other version, since the consumer may speak HTTP/2.
func isLean(configured json.RawMessage, h *reverseproxy.HTTPTransport, u *url.URL) bool {
	var options struct {
		all      map[string]json.RawMessage
		Versions []string                   `json:"versions"`
		TLS      map[string]json.RawMessage `json:"tls"`
	}
	if json.Unmarshal(configured, &options.all) != nil || json.Unmarshal(configured, &options) != nil {
		return false
	}
	for name := range options.all {
		if !slices.Contains(leanOptions, name) {
			return false
		}
	}
	t := h.Transport
	if len(options.TLS) > 0 || !t.DisableCompression || t.DisableKeepAlives {
		return false
	}
	if v := options.Versions; !slices.Equal(v, []string{"1.1"}) && (u.Scheme == "https" || slices.Contains(v, "h2c")) {
		return false
	}
	proxy, err := environmentProxy(u)
	return proxy == nil && err == nil
}

func environmentProxy(u *url.URL) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// adjust fits a transport of reverse_proxy for requests that nobody but the relay sends.
func adjust(h *reverseproxy.HTTPTransport) error {
	// Without being asked to, it would ask for gzip and unpack it; what is kept of a response is what the destination sent.
	if h.Compression == nil {
		h.Transport.DisableCompression = true
	}
	// A placeholder in the server name is replaced now, like all others, and not by a dialer that looks at each request.
	if h.TLS != nil && hasPlaceholder(h.TLS.ServerName) {
		name, err := resolve(h.TLS.ServerName)
		if err != nil {
			return fmt.Errorf("tls_server_name: %w", err)
		}
		h.Transport.TLSClientConfig.ServerName = name
		h.Transport.DialTLSContext = nil
	}
	return nil
}

// noteProxy logs that the environment sends a destination's requests elsewhere, which its configuration does not show.
func noteProxy(ctx caddy.Context, dst *relay.Destination) {
	proxy, err := environmentProxy(dst.URL)
	if err != nil || proxy == nil {
		return
	}
	ctx.Slogger().Info("destination is reached through a proxy, by HTTP_PROXY or HTTPS_PROXY in the environment",
		"destination", dst.Name, "proxy", proxy.Host)
}

// checkTransport refuses what only makes sense, or only seems to, inside reverse_proxy. u may be nil where it is not known.
func checkTransport(module any, u *url.URL) error {
	_, sends := module.(http.RoundTripper)
	t, speaksHTTP := module.(reverseproxy.TLSTransport)
	if !sends || !speaksHTTP {
		return fmt.Errorf("%T does not speak HTTP; expected transport http", module)
	}
	if t.TLSEnabled() && u != nil && u.Scheme == "http" {
		return errors.New("tls has no effect on an http URL; expected an https URL, or a transport without tls")
	}
	if t, ok := module.(*reverseproxy.HTTPTransport); ok && slices.Contains(t.Versions, "3") && u != nil && u.Scheme == "http" {
		return errors.New("versions 3 cannot reach an http URL, since HTTP/3 is always encrypted; expected an https URL, or other versions")
	}
	if t, ok := module.(reverseproxy.ProxyProtocolTransport); ok && t.ProxyProtocolEnabled() {
		return errors.New("proxy_protocol has no client to tell of; expected a transport without it")
	}
	return nil
}

// outbound puts into a request's context what a transport of reverse_proxy expects there: it may panic without.
type outbound struct {
	transport http.RoundTripper
	replacer  *caddy.Replacer // which transports only read
}

func (o outbound) RoundTrip(r *http.Request) (*http.Response, error) {
	return o.transport.RoundTrip(r.WithContext(&outboundContext{r.Context(), o.replacer, make(map[string]any)}))
}

type outboundContext struct {
	context.Context
	replacer *caddy.Replacer
	vars     map[string]any
}

func (c *outboundContext) Value(key any) any {
	switch key {
	case caddy.ReplacerCtxKey:
		return c.replacer
	case caddyhttp.VarsCtxKey:
		return c.vars
	}
	return c.Context.Value(key)
}

// Interface guards
var _ http.RoundTripper = outbound{}
