package caddymodule

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

func init() {
	caddy.RegisterModule(new(Redis))
}

const (
	defaultRedis  = "127.0.0.1:6379"
	defaultPrefix = "relay"
)

// Redis keeps events in Redis, which any number of gateways may share. While Redis cannot take a callback, a spool on the
// gateway's own disk does.
type Redis struct {
	// Where Redis is, as host:port. One address is a standalone Redis, several are a Cluster, or with master_name the
	// Sentinels. Placeholders: {env.*} and {file.*}. Default: 127.0.0.1:6379.
	Addresses []string `json:"addresses,omitempty"`

	// The name of the master that the Sentinels watch. Default: none, the addresses are Redis itself.
	MasterName string `json:"master_name,omitempty"`

	// The ACL user. Placeholders: {env.*} and {file.*}. Default: Redis's own, `default`.
	Username string `json:"username,omitempty"`

	// The password. Placeholders: {env.*} and {file.*}. Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database; a Cluster has only 0. Default: 0.
	DB int `json:"db,omitempty"`

	// Connects by TLS, and checks certificates against the system's authorities. Default: false.
	TLS bool `json:"tls,omitempty"`

	// Whether a single address is one of a Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// What the names of all keys begin with. Gateways with the same prefix share their events. Default: relay.
	KeyPrefix string `json:"key_prefix,omitempty"`

	// How long a callback waits for Redis before the spool takes it. Default: 2s.
	Timeout Duration `json:"timeout,omitempty"`

	// Where callbacks go while Redis cannot take them. Default: a file in relay in Caddy's data directory: spool.db, or
	// with other addresses, database or prefix than the defaults a name of its own.
	Spool *RedisSpool `json:"spool,omitempty"`

	// What must have a callback before it is answered: memory, the master, or replica, one of its replicas too.
	// Default: memory.
	Durability string `json:"durability,omitempty"`

	// How many partitions each source has, 1 to 256: on a Cluster they spread it over the masters. A prefix keeps the number
	// that it was written with. Default: 1, and 16 on a Cluster, where a prefix that has 1 keeps that.
	Partitions int `json:"partitions,omitempty"`

	options   redisstore.Options
	spoolPath string // empty: there is no spool
}

// RedisSpool sets where the spool is.
type RedisSpool struct {
	// Path of the file, on a local disk, for this gateway alone. Placeholders: {env.*} and {file.*}.
	Path string `json:"path,omitempty"`

	// Do without: callbacks that Redis cannot take get 503.
	Off bool `json:"off,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.stores.redis",
		New: func() caddy.Module { return new(Redis) },
	}
}

// Provision resolves placeholders. It connects to nothing.
func (r *Redis) Provision(caddy.Context) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	o := redisstore.Options{
		MasterName: r.MasterName,
		DB:         r.DB,
		Cluster:    r.Cluster,
		KeyPrefix:  cmp.Or(r.KeyPrefix, defaultPrefix),
		Timeout:    r.Timeout.or(redisstore.DefaultTimeout),
		Partitions: r.Partitions,
		Durability: redisstore.Durability(cmp.Or(r.Durability, string(redisstore.DurabilityMemory))),
	}
	for _, text := range r.Addresses {
		a, err := resolve(text)
		if err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		if checkAddress(a) != nil {
			return fmt.Errorf("addresses: expected host:port in %s", text) // whatever is there instead may be a secret
		}
		o.Addresses = append(o.Addresses, a)
	}
	if len(o.Addresses) == 0 {
		o.Addresses = []string{defaultRedis}
	}
	slices.Sort(o.Addresses)
	if err := checkDistinct(o.Addresses); err != nil {
		return err
	}
	if o.Username, err = resolve(r.Username); err != nil {
		return fmt.Errorf("username: %w", err)
	}
	if o.Password, err = resolve(r.Password); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	if r.TLS {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	r.options = o
	return r.findSpool()
}

// findSpool finds the real path of the spool's file, which need not exist yet. What waits for one Redis must not go to
// another: unless a path is given, each has a file of its own.
func (r *Redis) findSpool() error {
	path := ""
	if r.Spool != nil {
		if r.Spool.Off {
			return nil
		}
		var err error
		if path, err = resolve(r.Spool.Path); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	if path == "" {
		name := "spool.db"
		if identity := r.Identity(); identity != defaultIdentity {
			sum := sha256.Sum256([]byte(identity))
			name = "spool-" + hex.EncodeToString(sum[:4]) + ".db"
		}
		path = filepath.Join(caddy.AppDataDir(), "relay", name)
	}
	var err error
	if r.spoolPath, err = filePath(path); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

const defaultIdentity = "redis:" + defaultRedis + "/0?prefix=" + defaultPrefix

// Identity names the keys and their Redis.
func (r *Redis) Identity() string {
	o := r.options
	master := ""
	if o.MasterName != "" {
		master = o.MasterName + "@"
	}
	return fmt.Sprintf("redis:%s%s/%d?prefix=%s", master, strings.Join(o.Addresses, ","), o.DB, o.KeyPrefix)
}

// Options opens the store, and the spool unless it is off.
func (r *Redis) Options() engine.Options {
	path := r.spoolPath
	options := engine.Options{
		StoreTimeout: r.options.Timeout,
		OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
			o := r.options
			o.Logger = logger
			store, err := redisstore.Open(ctx, o)
			if err != nil {
				return nil, err // not a nil *Store in a Store that is not nil
			}
			return store, nil
		},
	}
	if path != "" {
		options.OpenSpool = func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) {
			s, err := spool.Open(ctx, spool.Options{Path: path})
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	}
	return options
}

// follow has the store, which outlives this config, use the credentials of the current one.
func (r *Redis) follow(current func() Store) {
	r.options.Credentials = func() (username, password string) {
		o := r.options
		if now, ok := current().(*Redis); ok {
			o = now.options
		}
		return o.Username, o.Password
	}
}

// changes returns the options by which this store, once open, would be used in another way than the other one.
func (r *Redis) changes(other Store) (options []string) {
	o, ok := other.(*Redis)
	if !ok {
		return []string{"driver"}
	}
	a, b := r.options, o.options
	for _, option := range []struct {
		name  string
		other bool
	}{
		{"cluster", a.Cluster != b.Cluster},
		{"tls", (a.TLS == nil) != (b.TLS == nil)},
		{"timeout", a.Timeout != b.Timeout},
		{"spool", r.spoolPath != o.spoolPath},
		{"durability", a.Durability != b.Durability},
		{"partitions", a.Partitions != b.Partitions},
	} {
		if option.other {
			options = append(options, option.name)
		}
	}
	return options
}

// parted reports whether a source may have several partitions.
func (r *Redis) parted() bool { return r.options.Parted() }

func (r *Redis) literalSecret() bool { return literal([]string{r.Password}) }

// check checks what can be, without replacing any placeholder.
func (r *Redis) check() error {
	for _, a := range r.Addresses {
		if err := checkPlaceholders(a); err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		if hasPlaceholder(a) {
			continue
		}
		if err := checkAddress(a); err != nil {
			return err
		}
	}
	if err := checkDistinct(r.Addresses); err != nil {
		return err
	}
	for name, text := range map[string]string{"username": r.Username, "password": r.Password} {
		if err := checkPlaceholders(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if r.Spool != nil {
		if err := checkPlaceholders(r.Spool.Path); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		if r.Spool.Off && r.Spool.Path != "" {
			return errors.New("spool: expected either off, or a path")
		}
	}
	if err := checkWritten(r.MasterName); err != nil {
		return fmt.Errorf("master_name: %w", err)
	}
	if err := checkKeyPrefix(r.KeyPrefix); r.KeyPrefix != "" && err != nil {
		return fmt.Errorf("key_prefix: %w", err)
	}
	if err := checkDurability(r.Durability); r.Durability != "" && err != nil {
		return fmt.Errorf("durability: %w", err)
	}
	switch {
	case r.Username != "" && r.Password == "":
		return errors.New("username: expected a password with it")
	case r.DB < 0:
		return fmt.Errorf("db: expected the number of a database, 0 or more, got %d", r.DB)
	case r.Partitions < 0 || r.Partitions > redisstore.MaxPartitions:
		return fmt.Errorf("partitions: expected a number from 1 to %d, got %d", redisstore.MaxPartitions, r.Partitions)
	case r.Timeout < 0:
		return fmt.Errorf("timeout: expected a positive duration, got %s", r.Timeout)
	case r.MasterName != "" && r.Cluster:
		return errors.New("expected either master_name, for Sentinel, or cluster")
	case r.DB > 0 && r.MasterName == "" && (r.Cluster || len(r.Addresses) > 1):
		return errors.New("db: a Cluster has only database 0; expected no db, one address, or master_name")
	}
	return nil
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if strings.Contains(s, "@") { // a URL with its password
		return errors.New("expected an address as host:port, and user and password by themselves")
	}
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		return fmt.Errorf("expected an address as host:port, got %q", s)
	}
	return nil
}

func checkDistinct(addresses []string) error {
	for i, a := range addresses {
		if slices.Contains(addresses[:i], a) {
			return fmt.Errorf("the address %s is repeated", a)
		}
	}
	return nil
}

func parseDB(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("expected the number of a database, 0 or more, got %q", s)
	}
	return int(n), nil
}

func parsePartitions(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > redisstore.MaxPartitions {
		return 0, fmt.Errorf("expected a number from 1 to %d, got %q", redisstore.MaxPartitions, s)
	}
	return n, nil
}

func checkKeyPrefix(s string) error {
	// Braces would say which slot of a Cluster a key is in.
	if !validName.MatchString(strings.ReplaceAll(s, ":", "")) {
		return fmt.Errorf("expected up to 63 letters, digits, dots, dashes, underscores and colons, got %q", s)
	}
	return nil
}

func checkDurability(s string) error {
	if s != string(redisstore.DurabilityMemory) && s != string(redisstore.DurabilityReplica) {
		return fmt.Errorf("expected memory or replica, got %q", s)
	}
	return nil
}

// Interface guards
var (
	_ Store                 = (*Redis)(nil)
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
)
