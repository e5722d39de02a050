package caddymodule

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/caddymodule/dashboard"
)

func init() {
	caddy.RegisterModule(new(Dashboard))
	httpcaddyfile.RegisterHandlerDirective("relay_dashboard", parseDashboard)
	httpcaddyfile.RegisterDirectiveOrder("relay_dashboard", httpcaddyfile.Before, "respond")
}

// Dashboard serves pages that show and steer the gateway, and below `api/` the admin API that they use. It is terminal: no
// handler after it is called. It may be mounted below any path whose prefix is stripped, as `handle_path` does.
//
// Whoever reaches it can read every stored callback, so it belongs behind authentication. What changes something (replay,
// redrive, discard, pause and so on) is allowed to a user whom Caddy authenticated (`{http.auth.user.id}` is set), to a
// client certificate that Caddy verified, and to a browser on the gateway's own machine: a loopback peer that asks for a
// loopback host, without any sign of a proxy. Requests of other origins are refused, and over plain HTTP so are those of a
// loopback peer that asks for another host, which is what a page does that rebinds its DNS name.
type Dashboard struct {
	pages    http.Handler
	api      http.Handler
	crossing *http.CrossOriginProtection
	stopping context.Context // ends as the server begins to shut down
	stop     context.CancelFunc
	link     *dashboardLink
}

// CaddyModule returns the Caddy module information.
func (*Dashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.relay_dashboard",
		New: func() caddy.Module { return new(Dashboard) },
	}
}

// Provision loads the app, also where no relay handler does, as on a gateway that only shows a shared Redis.
func (d *Dashboard) Provision(ctx caddy.Context) (err error) {
	d.stopping, d.stop = context.WithCancel(context.Background())
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		// A shutdown waits for requests to end, and a stream would not end before the app stops, which is later.
		server.RegisterOnShutdown(d.stop)
	}
	app, err := relayApp(ctx)
	if err != nil {
		return err
	}
	app.dashboard.Store(true)
	d.link = &app.pooled.dashboard
	d.crossing = http.NewCrossOriginProtection()
	d.api = adminHandler()
	d.pages, err = dashboard.Pages()
	return err
}

// Cleanup ends the streams of a config whose server was never started.
func (d *Dashboard) Cleanup() error {
	if d.stop != nil {
		d.stop()
	}
	return nil
}

// adminHandler serves the routes of the admin API outside of Caddy's admin endpoint.
func adminHandler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range new(AdminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			_ = route.Handler.ServeHTTP(w, r) // the routes answer their errors themselves
		})
	}
	return mux
}

// ServeHTTP serves a page or the API.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	dashboard.SetSecurityHeaders(w.Header())
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/"); ok {
		d.serveAPI(w, r, rest)
	} else if to := missingSlash(r); to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusPermanentRedirect)
	} else {
		d.link.note(r)
		d.pages.ServeHTTP(w, r)
	}
	return nil
}

// serveAPI serves what is below api/: the admin API's /relay/, and `access`, which tells the pages what they may offer.
func (d *Dashboard) serveAPI(w http.ResponseWriter, r *http.Request, rest string) {
	w.Header().Set("Cache-Control", "no-store")
	if err := d.checkOrigin(r); err != nil {
		writeError(w, r, err)
		return
	}
	if rest == "access" {
		writeJSON(w, http.StatusOK, map[string]bool{"writes": mayWrite(r)})
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !mayWrite(r) {
		writeError(w, r, &apiError{
			http.StatusForbidden, "read_only",
			"Only an authenticated user, a client certificate or a browser on the gateway's own machine may change anything here.",
		})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if rest == "stream" {
		defer context.AfterFunc(d.stopping, cancel)()
	}
	r = r.Clone(ctx)
	r.URL.Path, r.URL.RawPath = "/relay/"+rest, strings.Replace(r.URL.RawPath, "/api/", "/relay/", 1)
	d.api.ServeHTTP(w, r)
}

// checkOrigin refuses requests that another site's page sends. Go's protection lets all GETs pass, because they change
// nothing; but each stream that a foreign page opens takes the place of one of the few that there are. So every request is
// checked as one that changes something.
func (d *Dashboard) checkOrigin(r *http.Request) error {
	changing := *r
	changing.Method = http.MethodPost
	if d.crossing.Check(&changing) != nil {
		return &apiError{http.StatusForbidden, "cross_origin", "Requests from the pages of other sites are refused."}
	}
	if rebound(r) {
		return &apiError{
			http.StatusForbidden, "foreign_host",
			"From the gateway's own machine ask for localhost, or use HTTPS or a login; a proxy must serve HTTPS, or send Via.",
		}
	}
	return nil
}

// rebound reports whether the request may come from a page whose DNS name an attacker has pointed at this machine: for the
// browser, the page is of the same origin. Over TLS the name would need a certificate here, and a login is asked of the
// page's own name. What shows a proxy must be beyond the reach of the page's scripts, which can set most headers.
func rebound(r *http.Request) bool {
	return r.TLS == nil && fromLoopback(r) && !loopbackHost(r.Host) && !proxied(r) && !authenticated(r)
}

// proxied reports whether a proxy has sent the request on for certain: by headers that scripts cannot set, of which browsers
// send Sec-Fetch-Site over HTTPS and to this machine alone, or by HTTP/1.0, which no browser speaks. See "forbidden request-header"
// in https://fetch.spec.whatwg.org and section 2 of https://www.w3.org/TR/fetch-metadata.
func proxied(r *http.Request) bool {
	return r.Header.Get("Via") != "" || r.Header.Get("Sec-Fetch-Site") != "" || !r.ProtoAtLeast(1, 1)
}

// mayWrite reports whether the request may change something. Behind a proxy every peer may be a loopback one, so that
// whatever shows one counts against the request.
func mayWrite(r *http.Request) bool {
	return authenticated(r) || fromLoopback(r) && loopbackHost(r.Host) && !forwarded(r)
}

// authenticated reports whether Caddy knows who sent the request.
func authenticated(r *http.Request) bool {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if user, _ := repl.GetString("http.auth.user.id"); user != "" {
			return true
		}
	}
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
}

// fromLoopback reports whether the peer is on this machine.
func fromLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// loopbackHost reports whether the host, with or without a port, can only be the machine itself.
func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// forwarded reports whether a proxy sent the request on. One that adds no header, and sets the Host to its upstream's, may
// still show by an Origin that is another machine's, or by HTTP/1.0, which no browser speaks.
func forwarded(r *http.Request) bool {
	for name := range r.Header {
		switch {
		case strings.HasPrefix(name, "X-Forwarded"), strings.HasPrefix(name, "X-Envoy-"), strings.HasPrefix(name, "Cf-"):
			return true
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasSuffix(name, "Client-Ip"):
			return true
		}
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || !loopbackHost(u.Host) {
			return true
		}
	}
	return !r.ProtoAtLeast(1, 1)
}

// missingSlash returns where a request for the mount point itself has to go, if that is written without the slash that
// relative links need: as a path relative to it, so that no host can be smuggled in.
func missingSlash(r *http.Request) string {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || r.URL.Path != "/" && r.URL.Path != "" || strings.HasSuffix(original.URL.Path, "/") {
		return ""
	}
	return "./" + url.PathEscape(path.Base(original.URL.Path)) + "/"
}

func parseDashboard(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	d := new(Dashboard)
	return d, d.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from its tokens. Syntax:
//
//	relay_dashboard [<matcher>]
func (*Dashboard) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return nameOnly(d, "relay_dashboard [<matcher>]")
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Dashboard)(nil)
	_ caddy.CleanerUpper          = (*Dashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Dashboard)(nil)
	_ caddyfile.Unmarshaler       = (*Dashboard)(nil)
)
