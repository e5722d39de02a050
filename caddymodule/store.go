package caddymodule

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

func init() {
	caddy.RegisterModule(new(SQLite))
}

// Store is a module of the namespace relay.stores.
type Store interface {
	// Identity names what is stored where: two configurations with the same identity share one engine and its open
	// store. It is called after Provision, and must not need the store to be reachable.
	Identity() string
	// Options returns OpenStore, and for a store on the network OpenSpool and StoreTimeout.
	Options() engine.Options
}

// SQLite keeps events in a local SQLite database: one file, one process.
type SQLite struct {
	// Path of the database file. Missing directories are made. It must not be on a network filesystem.
	// Placeholders: {env.*} and {file.*}. Default: relay/relay.db in Caddy's data directory.
	Path string `json:"path,omitempty"`

	path string
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.stores.sqlite",
		New: func() caddy.Module { return new(SQLite) },
	}
}

// Provision finds the real path of the file, which need not exist yet.
func (s *SQLite) Provision(caddy.Context) error {
	path, err := resolve(s.Path)
	if err != nil {
		return err
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "relay", "relay.db")
	}
	s.path, err = filePath(path)
	return err
}

// Identity is the real path, so that a link and a relative path lead to the same engine.
func (s *SQLite) Identity() string { return "sqlite:" + s.path }

// Options opens the database.
func (s *SQLite) Options() engine.Options {
	path := s.path
	return engine.Options{OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
		store, err := sqlitestore.Open(ctx, sqlitestore.Options{Path: path, Logger: logger})
		if err != nil {
			return nil, err // not a nil *Store in a Store that is not nil
		}
		return store, nil
	}}
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	sqlite [<path>]
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the driver's name
	args, err := arguments(d, "store sqlite [<path>]", 0, 1)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		if s.Path = args[0]; s.Path == "" {
			return d.Errf("store sqlite: expected store sqlite [<path>], got an empty text")
		}
	}
	if err := checkPlaceholders(s.Path); err != nil {
		return d.Errf("store sqlite: %w", err)
	}
	return noBlock(d, "store sqlite")
}

// Interface guards
var (
	_ Store                 = (*SQLite)(nil)
	_ caddy.Provisioner     = (*SQLite)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
)
