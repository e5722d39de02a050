package caddymodule

import (
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// firstApp is the app of the config that was started while none with a relay was in use, until it stops. To Caddy a config is
// active once all of its apps have started; a store may need ten seconds to open, and callbacks come meanwhile.
var firstApp atomic.Pointer[App]

// shownApp returns the app that the admin API shows: that of the active config, or where it has none, the one that starts.
// While a reload goes on, that is the app before it.
func shownApp() (*App, error) {
	if module, err := caddy.ActiveContext().AppIfConfigured("relay"); err == nil {
		return module.(*App), nil
	}
	if a := firstApp.Load(); a != nil {
		return a, nil
	}
	return nil, errNotConfigured
}
