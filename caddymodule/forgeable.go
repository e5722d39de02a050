package caddymodule

import (
	"errors"
	"net/netip"
	"reflect"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/proxyprotocol"
)

// checkForgeable refuses an address list on a server where a sender can choose its own address.
//
// Caddy has loaded both modules that decide this into unexported fields by now, and offers no other way to ask for them.
func checkForgeable(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	loaded := reflect.ValueOf(server).Elem()
	if err := checkTrustedProxies(server, loaded.FieldByName("trustedProxies")); err != nil {
		return err
	}
	return checkProxyProtocol(loaded.FieldByName("listenerWrappers"))
}

// checkTrustedProxies refuses trusted proxies without strict parsing: then the first address in X-Forwarded-For counts, and
// that one is written by the caller.
func checkTrustedProxies(server *caddyhttp.Server, loaded reflect.Value) error {
	if server.TrustedProxiesStrict > 0 {
		return nil
	}
	if server.TrustedProxiesUnix || server.TrustedProxiesRaw != nil || loaded.IsValid() && !loaded.IsNil() {
		return errForgeable
	}
	return nil
}

// checkProxyProtocol refuses a PROXY protocol that takes the word of every peer.
func checkProxyProtocol(wrappers reflect.Value) error {
	if !wrappers.IsValid() || wrappers.Kind() != reflect.Slice {
		return nil
	}
	for i := range wrappers.Len() {
		wrapper := wrappers.Index(i).Elem()
		if wrapper.Type() != reflect.TypeFor[*proxyprotocol.ListenerWrapper]() {
			continue
		}
		wrapper = wrapper.Elem()
		switch proxyprotocol.Policy(wrapper.FieldByName("FallbackPolicy").Int()) {
		case proxyprotocol.PolicyUSE, proxyprotocol.PolicyREQUIRE:
			return errAnyPeer
		}
		for allowed, j := wrapper.FieldByName("Allow"), 0; j < allowed.Len(); j++ {
			if prefix, err := netip.ParsePrefix(allowed.Index(j).String()); err == nil && prefix.Bits() == 0 {
				return errAnyPeer
			}
		}
	}
	return nil
}

var (
	errForgeable = errors.New("the server has trusted_proxies, behind which a caller can forge its address; expected trusted_proxies_strict beside them")
	errAnyPeer   = errors.New("the server's proxy_protocol believes every peer, so that a caller can forge its address; expected allow with the addresses of the proxies, and neither 0.0.0.0/0 nor a fallback_policy of use or require")
)
