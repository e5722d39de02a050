// Command caddy is Caddy with the relay module, for development: go run ./caddymodule/caddy run.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/callbackrelay/caddy-relay/caddymodule"
)

func main() { caddycmd.Main() }
