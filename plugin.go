// Package caddyrelay adds Caddy Relay to a Caddy build: xcaddy build --with github.com/callbackrelay/caddy-relay.
package caddyrelay

import _ "github.com/callbackrelay/caddy-relay/caddymodule"
