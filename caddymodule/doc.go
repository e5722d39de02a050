// Package caddymodule is the glue between Caddy and the engine in package relay: the app, the handler with its Caddyfile
// directive, and the admin API.
package caddymodule
