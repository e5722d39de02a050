package caddymodule

import (
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// warnOfLost warns of the relay handlers of a server whose callbacks get lost. To one on a mistyped path, which nothing
// answers, Caddy answers an empty 200, which the sender takes for an acceptance; and what another handler answers before
// relay does not get there. It is called while the first of those handlers is provisioned. The routes behind that one are
// then still JSON, and those before it are modules, of which none is a relay.
func warnOfLost(server *caddyhttp.Server, log *slog.Logger) {
	s := siteReader{named: server.NamedRoutes}
	routes := s.routes(server.Routes)
	log = log.With("server", server.Name(), "listen", server.Listen)
	var warned []string
	for _, h := range uncaught(routes, nil, false) {
		if slices.Contains(warned, h.source) {
			continue
		}
		warned = append(warned, h.source)
		log.Warn("no catch-all after relay: a callback to a mistyped path gets an empty 200 and is lost; end the site with `respond 404`",
			"source", h.source)
	}
	for _, h := range unreached(routes, nil) {
		log.Warn("no callback gets to relay: a handler before it answers every request; set a matcher for that one, as in `relay_health /health`",
			"source", h.source, "handler", h.behind)
	}
}

// siteRoute is a route: which requests it takes, and its handlers.
type siteRoute struct {
	match    []map[string]json.RawMessage // sets of matchers by their names; none matches everything
	group    string
	terminal bool
	handlers []siteHandler
}

// siteHandler is a handler of a route: a relay handler, routes of its own, or any other.
type siteHandler struct {
	name   string
	source string          // of a relay handler
	config json.RawMessage // of a relay handler
	routes []siteRoute     // of a subroute, or the named route that is invoked
	answer bool            // it answers whatever it gets
	behind string          // of a relay handler that is not reached: the name of the handler that answers before it
}

// passing are the handlers of Caddy that hand every request on, or may. Any other is taken to answer.
var passing = []string{
	"acme_server", "authentication", "copy_response_headers", "encode", "headers", "intercept", "invoke", "log_append", "map",
	"push", "relay_submit", "request_body", "rewrite", "subroute", "templates", "timeouts", "tracing", "vars",
}

// certain are the handlers that answer every request in any configuration. Of those that are neither here nor in passing, as
// a plugin's, either may be true.
var certain = []string{"error", "relay", "relay_dashboard", "relay_health", "reverse_proxy", "static_response"}

// uncaught returns the relay handlers in routes some of whose misses nothing answers. hosts are those of the
// site, if it has any; answered reports whether what leaves the routes is answered behind them.
func uncaught(routes []siteRoute, hosts []string, answered bool) (found []siteHandler) {
	last, _ := ending(routes, hosts)
	for i, route := range routes[:last] {
		within := route.within(hosts)
		// What matches the route and leaves its handlers skips the others of its group.
		left := slices.ContainsFunc(route.handlers, func(h siteHandler) bool { return h.answer }) ||
			!route.terminal && caught(routes[i+1:], within, route.group, answered)
		if route.narrow() && !caught(routes[i+1:], within, "", answered) {
			found = append(found, relays(routes[i:i+1])...)
		} else {
			for _, h := range route.handlers {
				found = append(found, uncaught(h.routes, within, left)...)
			}
		}
	}
	return found
}

// ending returns how many of the routes a request for hosts can get to, and the name of the handler that answers whatever
// gets to the last of them, if one does for certain.
func ending(routes []siteRoute, hosts []string) (n int, by string) {
	for i, route := range routes {
		skipped := slices.ContainsFunc(routes[:i], func(r siteRoute) bool { return r.group != "" && r.group == route.group })
		if skipped || !route.takesAll(hosts) {
			continue
		}
		for _, h := range route.handlers {
			if by := h.ending(hosts); by != "" {
				return i + 1, by
			}
		}
	}
	return len(routes), ""
}

// ending returns the name of the handler, or of one in its routes, that answers every request for hosts for certain.
func (h siteHandler) ending(hosts []string) (by string) {
	if h.answer && slices.Contains(certain, h.name) {
		return h.name
	}
	_, by = ending(h.routes, hosts)
	return by
}

// unreached returns the relay handlers in routes that no request for hosts gets to, each with the handler that it is behind.
func unreached(routes []siteRoute, hosts []string) (found []siteHandler) {
	add := func(routes []siteRoute, by string) {
		for _, h := range relays(routes) {
			h.behind = by
			found = append(found, h)
		}
	}
	last, by := ending(routes, hosts)
	for _, route := range routes[:last] {
		within := route.within(hosts)
		for i, h := range route.handlers {
			found = append(found, unreached(h.routes, within)...)
			if by := h.ending(within); by != "" {
				add([]siteRoute{{handlers: route.handlers[i+1:]}}, by)
				break
			}
		}
	}
	add(routes[last:], by)
	return found
}

// relays returns all relay handlers in routes.
func relays(routes []siteRoute) (found []siteHandler) {
	for _, route := range routes {
		for _, h := range route.handlers {
			if h.source != "" {
				found = append(found, h)
			}
			found = append(found, relays(h.routes)...)
		}
	}
	return found
}

// caught reports whether routes answer every request for hosts that gets to them. Those of the group skipped are left out.
func caught(routes []siteRoute, hosts []string, skipped string, answered bool) bool {
	for _, route := range routes {
		if skipped != "" && route.group == skipped {
			continue
		}
		if slices.ContainsFunc(route.handlers, siteHandler.fallsBack) {
			return true
		}
		if !route.takesAll(hosts) {
			continue
		}
		if slices.ContainsFunc(route.handlers, func(h siteHandler) bool { return h.answer || caught(h.routes, hosts, "", false) }) {
			return true
		}
		if route.terminal {
			return false
		}
	}
	return answered
}

// fallsBack reports whether a handler is the last part of php_fastcgi, which has rewritten to index.php what is no file.
func (h siteHandler) fallsBack() bool { return h.name == "fastcgi" && h.answer }

// narrow reports whether the route leaves out callbacks of its site: by anything but their host, method or protocol.
func (r siteRoute) narrow() bool {
	return len(r.match) > 0 && !slices.ContainsFunc(r.match, func(set map[string]json.RawMessage) bool {
		return wide(set, "host", "method", "protocol")
	})
}

// takesAll reports whether the route takes every request for hosts.
func (r siteRoute) takesAll(hosts []string) bool {
	if len(r.match) == 0 {
		return true
	}
	return slices.ContainsFunc(r.match, func(set map[string]json.RawMessage) bool {
		if !wide(set, "host") {
			return false
		}
		var own []string
		if set["host"] == nil || json.Unmarshal(set["host"], &own) != nil {
			return set["host"] == nil
		}
		return len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(own, h) })
	})
}

// wide reports whether a matcher set is made of the named matchers alone, apart from paths that match everything.
func wide(set map[string]json.RawMessage, names ...string) bool {
	for name, raw := range set {
		var paths []string
		if name == "path" && json.Unmarshal(raw, &paths) == nil && (slices.Contains(paths, "*") || slices.Contains(paths, "/*")) {
			continue
		}
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

// within returns the hosts that the route is limited to: its own, or those around it if it names none, or names them in more
// than one matcher set.
func (r siteRoute) within(hosts []string) []string {
	var own []string
	if len(r.match) == 1 && r.match[0]["host"] != nil {
		_ = json.Unmarshal(r.match[0]["host"], &own) // Caddy reports what is no list
	}
	if own == nil {
		return hosts
	}
	return own
}

// siteReader reads routes, in whatever state of provisioning they are.
type siteReader struct {
	named    map[string]*caddyhttp.Route
	invoking []string // names of the routes that are being read, which may invoke each other
}

func (s siteReader) routes(list caddyhttp.RouteList) (routes []siteRoute) {
	for _, r := range list {
		route := siteRoute{group: r.Group, terminal: r.Terminal}
		for _, set := range r.MatcherSetsRaw {
			route.match = append(route.match, set)
		}
		for _, set := range r.MatcherSets {
			loaded := make(map[string]json.RawMessage)
			for _, matcher := range set {
				raw, _ := json.Marshal(matcher) // what has no JSON still has its name
				loaded[caddy.GetModuleName(matcher)] = raw
			}
			route.match = append(route.match, loaded)
		}
		for _, raw := range r.HandlersRaw {
			route.handlers = append(route.handlers, s.handler(raw))
		}
		for _, h := range r.Handlers {
			route.handlers = append(route.handlers, s.loaded(h))
		}
		routes = append(routes, route)
	}
	return routes
}

// handler reads a handler that is not provisioned yet. What has another shape than expected is left to Caddy to refuse.
func (s siteReader) handler(raw json.RawMessage) siteHandler {
	var kind struct {
		Handler string `json:"handler"`
	}
	_ = json.Unmarshal(raw, &kind)
	h := siteHandler{name: kind.Handler, answer: !slices.Contains(passing, kind.Handler)}
	switch kind.Handler {
	case "relay":
		var relay struct {
			Source string `json:"source"`
		}
		_ = json.Unmarshal(raw, &relay)
		h.source, h.config = relay.Source, raw
	case "subroute":
		var subroute caddyhttp.Subroute
		_ = json.Unmarshal(raw, &subroute)
		h.routes = s.routes(subroute.Routes)
	case "invoke":
		var invoke caddyhttp.Invoke
		_ = json.Unmarshal(raw, &invoke)
		h.routes = s.invoked(invoke.Name)
	case "file_server":
		var files struct {
			PassThru bool `json:"pass_thru"`
		}
		_ = json.Unmarshal(raw, &files)
		h.answer = !files.PassThru
	case "reverse_proxy":
		var proxy struct {
			Transport struct {
				Protocol string `json:"protocol"`
			} `json:"transport"`
			HandleResponse []caddyhttp.ResponseHandler `json:"handle_response"`
		}
		_ = json.Unmarshal(raw, &proxy)
		h.answer = s.answers(proxy.HandleResponse)
		if proxy.Transport.Protocol == "fastcgi" {
			h.name = proxy.Transport.Protocol
		}
	}
	return h
}

// answers reports whether a reverse_proxy with these handlers of its upstream's responses answers every request: one whose
// routes do not may hand the request on, which is what forward_auth is for.
func (s siteReader) answers(list []caddyhttp.ResponseHandler) bool {
	return !slices.ContainsFunc(list, func(r caddyhttp.ResponseHandler) bool {
		return r.StatusCode == "" && !caught(s.routes(r.Routes), nil, "", false)
	})
}

// loaded reads a handler that is provisioned.
func (s siteReader) loaded(handler caddyhttp.MiddlewareHandler) siteHandler {
	h := siteHandler{name: caddy.GetModuleName(handler)}
	h.answer = !slices.Contains(passing, h.name)
	switch handler := handler.(type) {
	case *Handler:
		h.source = handler.Source
	case *caddyhttp.Subroute:
		h.routes = s.routes(handler.Routes)
	case *caddyhttp.Invoke:
		h.routes = s.invoked(handler.Name)
	case *reverseproxy.Handler:
		h.answer = s.answers(handler.HandleResponse)
	}
	return h
}

func (s siteReader) invoked(name string) []siteRoute {
	route := s.named[name]
	if route == nil || slices.Contains(s.invoking, name) {
		return nil
	}
	s.invoking = append(slices.Clone(s.invoking), name)
	return s.routes(caddyhttp.RouteList{*route})
}
