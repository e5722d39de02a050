package caddymodule

import (
	"github.com/callbackrelay/caddy-relay/caddymodule/command"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

func init() {
	command.Register(sqlitestore.Backup)
}
