package caddymodule

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

const (
	doctorTimeout  = 3 * time.Second    // for one connection, or one name
	doctorTogether = 16                 // connections and names at a time
	lowDisk        = 1 << 30            // bytes; below 256 MiB the store takes nothing
	lowSpool       = 64 << 20           // bytes; a spool writes its log before it moves that into its file
	soonExpired    = 7 * 24 * time.Hour // or, for a short life, this part of it: Caddy renews when a third is left
	soonPart       = 6
	clockOff       = 5 * time.Second
)

// started is when the process began, by both of its clocks.
var started = time.Now()

// doctor looks for what people get wrong. Outside of the gateway it asks for names and opens connections, and sends nothing.
func doctor(e *engine.Engine, r *http.Request) (any, error) {
	if q := parseQuery(r); q.err != nil {
		return nil, q.err
	}
	app, err := shownApp()
	if err != nil {
		return nil, err
	}
	var servers map[string]*caddyhttp.Server
	if web, err := app.ctx.AppIfConfigured("http"); err == nil {
		servers = web.(*caddyhttp.App).Servers
	}
	x := &examination{dial: new(net.Dialer).DialContext, lookup: net.DefaultResolver.LookupNetIP}
	status := e.Status(r.Context())
	x.sites(r.Context(), servers)
	x.sources(status.Sources)
	x.clock(r.Context(), e)
	x.store(&status)
	x.destinations(r.Context(), app.registered())
	answer := api.Doctor{OK: true, Checks: x.checks}
	for _, c := range x.checks {
		answer.OK = answer.OK && c.State != api.CheckError
	}
	return answer, nil
}

// registered returns the sources of the config, in the order of their names.
func (a *App) registered() (sources []*relay.Source) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(a.sources)) {
		sources = append(sources, a.sources[name].source)
	}
	return sources
}

// examination collects what the doctor finds.
type examination struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	checks []api.Check
}

func (x *examination) ok(name, subject, format string, args ...any) {
	x.checks = append(x.checks, api.Check{Name: name, Subject: subject, State: api.CheckOK, Message: fmt.Sprintf(format, args...)})
}

func (x *examination) warn(name, subject, format string, args ...any) {
	x.checks = append(x.checks, api.Check{Name: name, Subject: subject, State: api.CheckWarning, Message: fmt.Sprintf(format, args...)})
}

func (x *examination) fail(name, subject, format string, args ...any) {
	x.checks = append(x.checks, api.Check{Name: name, Subject: subject, State: api.CheckError, Message: fmt.Sprintf(format, args...)})
}

// sites looks at the servers that have relay routes: their names, their certificates, and what answers a mistyped path.
func (x *examination) sites(ctx context.Context, servers map[string]*caddyhttp.Server) {
	found := false
	var names []string // that need a look-up
	for _, id := range slices.Sorted(maps.Keys(servers)) {
		server := servers[id]
		routes := siteReader{named: server.NamedRoutes}.routes(server.Routes)
		hosts := relayHosts(routes, nil)
		if len(hosts) == 0 {
			continue
		}
		found = true
		for _, host := range slices.Sorted(maps.Keys(hosts)) {
			switch {
			case host == "":
				x.warn("public_name", strings.Join(server.Listen, " "), "A relay route answers on any name, so Caddy gets no certificate for it: give its site the public name that senders call.")
				continue
			case localName(host):
				x.warn("public_name", host, "Senders on the internet cannot reach this name: give the site a public one.")
			case strings.Contains(host, "*"):
				x.ok("public_name", host, "The site has a wildcard name.")
			default:
				names = append(names, host)
			}
			x.certificate(server, host)
		}
		missed := uncaught(routes, nil, false)
		for _, h := range missed {
			x.warn("catch_all", h.source, "Nothing answers a callback to a mistyped path: Caddy sends an empty 200, and it is lost. End the site with `respond 404`.")
		}
		for _, h := range unreached(routes, nil) {
			x.fail("reached", h.source, "No callback gets to this relay, since %s before it answers every request: set a matcher for that one.", h.behind)
		}
		if len(missed) == 0 {
			x.ok("catch_all", id, "A callback to a mistyped path is answered.")
		}
	}
	if !found {
		x.fail("public_name", "", "No server has a relay route: add one to a site.")
	}
	x.resolve(ctx, names)
}

// relayHosts returns the names under which relay routes are reached; the empty one stands for any.
func relayHosts(routes []siteRoute, within []string) map[string]bool {
	found := map[string]bool{}
	for _, route := range routes {
		hosts := route.within(within)
		for _, h := range route.handlers {
			if h.source != "" {
				for _, host := range hosts {
					found[host] = true
				}
				if len(hosts) == 0 {
					found[""] = true
				}
			}
			maps.Copy(found, relayHosts(h.routes, hosts))
		}
	}
	return found
}

// localName reports whether a name or address is one that the internet does not know.
func localName(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return !public(addr)
	}
	last := host[strings.LastIndex(host, ".")+1:]
	return !strings.Contains(host, ".") || slices.Contains([]string{"localhost", "local", "internal", "test", "invalid", "example", "lan", "home"}, last)
}

func public(addr netip.Addr) bool { return addr.IsGlobalUnicast() && !addr.IsPrivate() }

// resolve asks for the addresses of names.
func (x *examination) resolve(ctx context.Context, names []string) {
	addrs := make([][]netip.Addr, len(names))
	errs := make([]error, len(names))
	together(len(names), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
		defer cancel()
		addrs[i], errs[i] = x.lookup(ctx, "ip", names[i])
	})
	for i, name := range names {
		switch {
		case errs[i] != nil:
			x.fail("public_name", name, "The name cannot be resolved: %v. Add its A or AAAA record.", errs[i])
		case !slices.ContainsFunc(addrs[i], public):
			x.warn("public_name", name, "From here the name leads to no public address, but to %v: check its records if senders are on the internet.", addrs[i])
		default:
			x.ok("public_name", name, "The name leads to %v.", addrs[i])
		}
	}
}

// certificate looks at the certificate that Caddy has for a name.
func (x *examination) certificate(server *caddyhttp.Server, host string) {
	if len(server.TLSConnPolicies) == 0 {
		x.warn("certificate", host, "The site is served over plain http: let it listen on https, unless a proxy before it does.")
		return
	}
	if _, err := caddy.ActiveContext().AppIfConfigured("tls"); err != nil {
		return
	}
	var last *x509.Certificate
	for _, cert := range caddytls.AllMatchingCertificates(host) {
		if cert.Leaf != nil && (last == nil || cert.Leaf.NotAfter.After(last.NotAfter)) {
			last = cert.Leaf
		}
	}
	x.lifetime(host, last, time.Now())
}

// lifetime looks at how long a certificate is still valid; nil: there is none.
func (x *examination) lifetime(host string, cert *x509.Certificate, now time.Time) {
	if cert == nil {
		x.fail("certificate", host, "Caddy has no certificate for this name: look for errors of tls.obtain in its log, and make sure that ports 80 and 443 are reachable.")
		return
	}
	until := cert.NotAfter
	switch left := until.Sub(now); {
	case left <= 0:
		x.fail("certificate", host, "The certificate has expired at %s: look for errors of tls.renew in the log.", until.UTC().Format(time.RFC3339))
	case left < min(soonExpired, until.Sub(cert.NotBefore)/soonPart):
		x.warn("certificate", host, "The certificate expires at %s: Caddy should have renewed it; look for errors of tls.renew in the log.", until.UTC().Format(time.RFC3339))
	default:
		x.ok("certificate", host, "The certificate is valid until %s.", until.UTC().Format(time.RFC3339))
	}
}

func (x *examination) sources(sources []engine.SourceStatus) {
	for _, s := range sources {
		if s.Open {
			x.warn("open_source", s.Name, "Anyone who knows the address can send callbacks: set verify or allow.")
		} else {
			x.ok("open_source", s.Name, "Callers are checked.")
		}
	}
}

// clock looks whether the wall clock has been stepped, and whether it agrees with a shared store's.
func (x *examination) clock(ctx context.Context, e *engine.Engine) {
	now := time.Now()
	jump := now.Round(0).Sub(started.Round(0)) - now.Sub(started)
	if jump.Abs() > clockOff {
		x.warn("clock", "", "The clock was set by %s since the gateway started, or the machine slept: signatures and retries go by it; run a time service such as chrony.", jump.Round(time.Second))
		return
	}
	store, err := e.Store()
	if clocked, ok := store.(relay.ClockedStore); err == nil && ok {
		ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
		defer cancel()
		at, err := clocked.Clock(ctx)
		half := time.Since(now) / 2 // of the way there and back
		if off := now.Round(0).Add(half).Sub(at); err == nil && off.Abs() > clockOff {
			x.warn("clock", "", "The clocks of the gateway and of the store differ by %s: run a time service such as chrony on both.", off.Round(time.Second))
			return
		}
	}
	x.ok("clock", "", "The clock runs evenly.")
}

// store looks at the store and the spool: whether they work, their room, and how durable they are.
func (x *examination) store(s *engine.Status) {
	store := &s.Store
	if store.Up {
		x.ok("store", store.Location, "The store works.")
	} else {
		x.fail("store", store.Location, "The store does not work: %s.", store.Error)
	}
	x.disk(store.Location, store.FreeBytes, lowDisk, "Only %d MiB are free; below 256 MiB no callback is taken: make room.")
	switch store.EvictionPolicy {
	case "":
	case "noeviction":
		x.ok("redis_policy", store.Location, "maxmemory-policy is noeviction.")
	case "unknown":
		x.warn("redis_policy", store.Location, "Redis does not say what its maxmemory-policy is: make sure that it is noeviction, or it may throw deliveries away.")
	default:
		x.fail("redis_policy", store.Location, "maxmemory-policy is %s, by which Redis may throw deliveries away: set it to noeviction.", store.EvictionPolicy)
	}
	switch {
	case store.AppendOnly == "":
	case store.AppendOnly == "unknown":
		x.warn("redis_persistence", store.Location, "Redis does not say whether appendonly is on: without it a crash of Redis loses what was accepted.")
	case store.AppendOnly != "yes":
		x.fail("redis_persistence", store.Location, "appendonly is %s: a crash of Redis loses what was accepted; set appendonly to yes.", store.AppendOnly)
	case store.AppendFsync == "no":
		x.warn("redis_persistence", store.Location, "appendfsync is no: a crash of its machine may lose half a minute; set it to everysec or always.")
	default:
		x.ok("redis_persistence", store.Location, "appendonly is yes, appendfsync %s.", store.AppendFsync)
	}
	x.spool(s.Spool)
	if s.Drift {
		x.warn("nodes", "", "The gateways of this store have different sources: give all of them the same config.")
	}
}

// spool looks whether the spool, nil where there is none, could take callbacks, though it may not have to right now.
func (x *examination) spool(s *engine.SpoolStatus) {
	switch {
	case s == nil:
		return
	case !s.Up || s.Error != "":
		x.fail("spool", s.Location, "The spool takes nothing: %s. While the store is away, callbacks get 503.", s.Error)
	case s.Stuck > 0:
		x.warn("spool", s.Location, "The store refuses %d callbacks of the spool: look for the reason in the log.", s.Stuck)
	default:
		x.ok("spool", s.Location, "The spool works.")
	}
	x.disk(s.Location, s.FreeBytes, lowSpool, "Only %d MiB are free where the spool is, and it needs 64 MiB: make room, or callbacks get 503 while the store is away.")
}

// disk looks whether the free bytes where a file is, negative if they are unknown, are enough. The warning has a verb for their MiB.
func (x *examination) disk(location string, free, enough int64, warning string) {
	switch {
	case free < 0:
	case free < enough:
		x.warn("disk", location, warning, free>>20)
	default:
		x.ok("disk", location, "%d MiB are free.", free>>20)
	}
}

var standardPorts = map[string]string{"http": "80", "https": "443"}

// destinations opens a connection to each of them and closes it.
func (x *examination) destinations(ctx context.Context, sources []*relay.Source) {
	type target struct{ subject, address string }
	var targets []target
	for _, src := range sources {
		for _, d := range src.Destinations {
			if d.Archiver != nil {
				continue // whose files are anywhere
			}
			port := cmp.Or(d.URL.Port(), standardPorts[d.URL.Scheme])
			targets = append(targets, target{src.Name + "/" + d.Name, net.JoinHostPort(d.URL.Hostname(), port)})
		}
	}
	errs := make([]error, len(targets))
	together(len(targets), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
		defer cancel()
		conn, err := x.dial(ctx, "tcp", targets[i].address)
		if errs[i] = err; err == nil {
			_ = conn.Close()
		}
	})
	for i, t := range targets {
		if errs[i] != nil {
			x.fail("destination", t.subject, "No connection to %s: %v. Check the URL, and whether the consumer runs.", t.address, errs[i])
		} else {
			x.ok("destination", t.subject, "%s accepts connections.", t.address)
		}
	}
}

// together calls f for each number below n, several at a time, and waits.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	turns := make(chan struct{}, doctorTogether)
	for i := range n {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			f(i)
		})
	}
	all.Wait()
}
