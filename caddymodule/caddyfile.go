package caddymodule

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("relay", parseOption)
	httpcaddyfile.RegisterHandlerDirective("relay", parseDirective)
	// Each one goes right before respond, so relay stands behind them, which answers whatever it gets.
	httpcaddyfile.RegisterHandlerDirective("relay_health", parseHealth)
	httpcaddyfile.RegisterDirectiveOrder("relay_health", httpcaddyfile.Before, "respond")
	httpcaddyfile.RegisterDirectiveOrder("relay", httpcaddyfile.Before, "respond")
}

// parseOption reads the global option. If it is repeated, each one must set something else.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	earlier, repeated := existing.(httpcaddyfile.App)
	if repeated {
		if err := json.Unmarshal(earlier.Value, app); err != nil {
			return nil, err
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	canonical, err := canonicalJSON(app)
	if err != nil {
		return nil, err
	}
	d.Reset()
	d.Next() // back to the option's name
	places.note(phaseOption, !repeated, canonical, here(d))
	return httpcaddyfile.App{Name: "relay", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from the tokens of the global option. Syntax:
//
//	relay {
//	    store sqlite [<path>] | redis [<host:port>...] [{ ... }]
//	    retention <duration>
//	    dead_letter_retention <duration>
//	    drain <duration>
//	    abandon_store
//	    alerts {
//	        on <condition>...
//	        silent_after <duration>
//	        every <duration>
//	        to [<name>] <url> {
//	            format json|slack
//	            ... as in a source
//	        }
//	    }
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if _, err := arguments(d, "relay { ... }", 0, 0); err != nil {
		return err
	}
	for d.NextBlock(0) {
		name := d.Val()
		var err error
		switch name {
		case "store":
			if a.StoreRaw != nil {
				return errRepeated(d, name)
			}
			_, a.StoreRaw, err = guest(d, "store <driver> [<arguments>]", "relay.stores", "driver")
		case "retention":
			err = setDuration(d, name, &a.Retention)
		case "dead_letter_retention":
			err = setDuration(d, name, &a.DeadLetterRetention)
		case "drain":
			err = setDuration(d, name, &a.Drain)
		case "abandon_store":
			if a.AbandonStore {
				return errRepeated(d, name)
			}
			a.AbandonStore = true
			_, err = arguments(d, name, 0, 0)
		case "alerts":
			if a.Alerts != nil {
				return errRepeated(d, name)
			}
			a.Alerts = new(Alerts)
			err = a.Alerts.unmarshalBlock(d)
		default:
			return errUnknown(d, "store, retention, dead_letter_retention, drain, abandon_store or alerts")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place is a line of a Caddyfile.
type place struct {
	file string
	line int
}

func here(d *caddyfile.Dispenser) place { return place{d.File(), d.Line()} }

func (p place) String() string { return p.file + ":" + strconv.Itoa(p.line) }

// errf is like the dispenser's, for a place that has been passed.
func (p place) errf(format string, args ...any) error {
	return fmt.Errorf("%w, at %s", fmt.Errorf(format, args...), p)
}

// parsedSource is a source as a handler of a Caddyfile defined it.
type parsedSource struct {
	canonical []byte
	place     string
}

// readDirective sets up a handler from its directive, returns its canonical JSON, and goes back to where it begins.
func readDirective(h httpcaddyfile.Helper, handler caddyfile.Unmarshaler) (canonical []byte, err error) {
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	canonical, err = canonicalJSON(handler)
	h.Reset()
	h.Next()
	return canonical, err
}

// parseDirective reads the directive, and compares it with those of the same source that came before it.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	canonical, err := readDirective(h, handler)
	if err != nil {
		return nil, err
	}
	if name := handler.allowedBy(); name != "" && forgeableClients(h.Option("servers")) {
		return nil, h.Errf("%s: %w", name, errForgeable)
	}
	sources, known := h.State["relay.sources"].(map[string]parsedSource)
	if !known {
		if sources, err = namedSources(h.Option("named_routes")); err != nil {
			return nil, err
		}
		h.State["relay.sources"] = sources
	}
	at := noteHandler(h, canonical)
	if first, ok := sources[handler.Source]; !ok {
		sources[handler.Source] = parsedSource{canonical, at.String()}
	} else if !bytes.Equal(first.canonical, canonical) {
		return nil, h.Errf("source %q is defined differently at %s; expected the same settings, or another name", handler.Source, first.place)
	}
	return handler, nil
}

// noteHandler notes and returns the place of a handler, where its directive begins.
func noteHandler(h httpcaddyfile.Helper, canonical []byte) place {
	phase := phaseSites
	if h.IsNamedRoute() {
		phase = phaseNamedRoutes
	}
	at := here(h.Dispenser)
	places.note(phase, h.State["relay.noted"] == nil, canonical, at)
	h.State["relay.noted"] = true
	return at
}

// namedSources returns the sources that named routes define. Caddy adapts those routes before the sites, and shares no state
// between the two; an option holds the routes.
func namedSources(option any) (map[string]parsedSource, error) {
	sources := make(map[string]parsedSource)
	named, _ := option.(map[string]*caddyhttp.Route)
	for name, route := range named {
		for _, r := range relays(siteReader{}.routes(caddyhttp.RouteList{*route})) {
			handler := new(Handler)
			if err := json.Unmarshal(r.config, handler); err != nil {
				return nil, err
			}
			canonical, err := canonicalJSON(handler)
			if err != nil {
				return nil, err
			}
			sources[r.source] = parsedSource{canonical, cmp.Or(places.find(canonical), "the named route "+name)}
		}
	}
	return sources, nil
}

// forgeableClients reports whether the global option `servers` trusts proxies without strict parsing. Only the usual case is
// decided here, one block for all servers: provisioning knows each server. The option's type is not exported.
func forgeableClients(option any) bool {
	servers := reflect.ValueOf(option)
	if servers.Kind() != reflect.Slice || servers.Len() != 1 || servers.Index(0).Kind() != reflect.Struct {
		return false
	}
	set := func(field string) bool {
		f := servers.Index(0).FieldByName(field)
		return f.IsValid() && !f.IsZero()
	}
	return !set("ListenerAddress") && (set("TrustedProxiesRaw") || set("TrustedProxiesUnix")) && !set("TrustedProxiesStrict")
}

// The helpers below read one subdirective, whose name is the current token, and say in their errors what was expected.

// arguments returns the arguments on the rest of the line: at least least, and at most `most` unless that is negative.
func arguments(d *caddyfile.Dispenser, usage string, least, most int) ([]string, error) {
	args := d.RemainingArgs()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, d.Errf("wrong number of arguments: expected %s", usage)
	}
	return args, nil
}

// noBlock refuses a block after a subdirective that has none.
func noBlock(d *caddyfile.Dispenser, name string) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unexpected block: %s has none", name)
	}
	return nil
}

// nameOnly reads a directive or a module that has neither arguments nor a block.
func nameOnly(d *caddyfile.Dispenser, usage string) error {
	d.Next() // the name
	if _, err := arguments(d, usage, 0, 0); err != nil {
		return err
	}
	return noBlock(d, usage)
}

// set reads the one argument of a subdirective, whose name usage begins with. It may stand once.
func set[T comparable](d *caddyfile.Dispenser, usage string, to *T, parse func(string) (T, error)) error {
	name, _, _ := strings.Cut(usage, " ")
	if *to != *new(T) {
		return errRepeated(d, name)
	}
	args, err := arguments(d, usage, 1, 1)
	if err != nil {
		return err
	}
	if *to, err = parse(args[0]); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	return nil
}

func setDuration(d *caddyfile.Dispenser, name string, to *Duration) error {
	return set(d, name+" <duration>", to, parseDuration)
}

func parseDuration(s string) (Duration, error) {
	v, err := caddy.ParseDuration(s)
	if err != nil || v <= 0 {
		return 0, fmt.Errorf("expected a positive duration such as 30s, got %q", s)
	}
	return Duration(v), nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("expected a number of at least 1, got %q", s)
	}
	return int(n), nil
}

// setText sets a text that check, if any, accepts.
func setText(d *caddyfile.Dispenser, usage string, to *string, check func(string) error) error {
	return set(d, usage, to, func(s string) (string, error) {
		if s == "" {
			return s, fmt.Errorf("expected %s, got an empty text", usage)
		}
		if check == nil {
			return s, nil
		}
		return s, check(s)
	})
}

// guest reads a guest module, whose name is the first argument, and returns it with its JSON.
func guest(d *caddyfile.Dispenser, usage, namespace, inlineKey string) (any, json.RawMessage, error) {
	if !d.NextArg() {
		return nil, nil, d.Errf("wrong number of arguments: expected %s", usage)
	}
	name := d.Val()
	known := moduleNames(namespace)
	if !slices.Contains(known, name) {
		return nil, nil, d.Errf("unknown module %q: expected %s, of %s", name, usage, strings.Join(known, ", "))
	}
	info, err := caddy.GetModule(namespace + "." + name)
	if err != nil {
		return nil, nil, d.Errf("%s: %w", name, err)
	}
	module, ok := info.New().(caddyfile.Unmarshaler)
	if !ok {
		return nil, nil, d.Errf("%s cannot be configured in a Caddyfile", name)
	}
	segment := d.NewFromNextSegment()
	if err := module.UnmarshalCaddyfile(segment); err != nil {
		return nil, nil, err
	}
	if err := nothingLeft(segment, usage); err != nil {
		return nil, nil, err
	}
	return module, caddyconfig.JSONModuleObject(module, inlineKey, name, nil), nil
}

// nothingLeft refuses what a guest module has not read of its tokens. Some of Caddy's own ignore that, even if it is a list
// of whom to trust.
func nothingLeft(d *caddyfile.Dispenser, usage string) error {
	if d.Token().Line == 0 {
		d.Next() // a module without settings need not even read its name
	}
	if d.Next() {
		return d.Errf("unexpected %q: expected %s", d.Val(), usage)
	}
	return nil
}

// moduleNames lists the modules directly in a namespace.
func moduleNames(namespace string) (names []string) {
	for _, m := range caddy.GetModules(namespace) {
		names = append(names, m.ID.Name())
	}
	slices.Sort(names)
	return names
}

func errUnknown(d *caddyfile.Dispenser, expected string) error {
	return d.Errf("unrecognized subdirective %q: expected %s", d.Val(), expected)
}

func errRepeated(d *caddyfile.Dispenser, name string) error {
	return d.Errf("%s is repeated: expected it once", name)
}

// Interface guards
var _ caddyfile.Unmarshaler = (*App)(nil)
