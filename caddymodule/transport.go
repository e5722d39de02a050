package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/callbackrelay/caddy-relay/relay"
)

// transport loads the transport of a destination, each of which has connections of its own.
func (d *Destination) transport(ctx caddy.Context, dst *relay.Destination) (http.RoundTripper, error) {
	if d.TransportRaw == nil {
		d.TransportRaw = fmt.Appendf(nil, `{"protocol":"http","keep_alive":{"max_idle_conns_per_host":%d}}`, dst.MaxInFlight)
	}
	module, err := ctx.LoadModule(d, "TransportRaw")
	if err != nil {
		return nil, err
	}
	if err := checkTransport(module, dst.URL); err != nil {
		return nil, err
	}
	t := module.(http.RoundTripper)
	// Without being asked to, the standard transport would ask for gzip and unpack it; what is kept of a response
	// is what the destination sent.
	if h, ok := t.(*reverseproxy.HTTPTransport); ok && h.Compression == nil && h.Transport != nil {
		h.Transport.DisableCompression = true
	}
	return outbound{t, caddy.NewReplacer()}, nil
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
	if t, ok := module.(reverseproxy.ProxyProtocolTransport); ok && t.ProxyProtocolEnabled() {
		return errors.New("proxy_protocol has no client to tell of; expected a transport without it")
	}
	return nil
}

// outbound gives a transport of reverse_proxy what it expects in a request's context: it would panic without.
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
