package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	redis [<host:port>...] {
//	    master_name <name>
//	    username <name>
//	    password <secret>
//	    db <number>
//	    tls
//	    cluster
//	    key_prefix <prefix>
//	    timeout <duration>
//	    spool [<path>] | off
//	    durability memory|replica
//	    partitions <number>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the driver's name
	r.Addresses = d.RemainingArgs()
	for _, a := range r.Addresses {
		if err := checkAddress(a); err != nil && !hasPlaceholder(a) {
			return d.Errf("store redis: %w", err)
		}
	}
	seen := map[string]bool{}
	for d.NextBlock(0) {
		name := d.Val()
		if seen[name] {
			return errRepeated(d, name)
		}
		seen[name] = true
		if err := r.unmarshalOption(d, name); err != nil {
			return err
		}
	}
	if err := r.check(); err != nil {
		d.Reset()
		d.Next() // back to where the store begins
		return d.Errf("store redis: %w", err)
	}
	return nil
}

func (r *Redis) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "master_name":
		return setText(d, "master_name <name>", &r.MasterName, nil)
	case "username":
		return setText(d, "username <name>", &r.Username, checkPlaceholders)
	case "password":
		return setText(d, "password <secret>", &r.Password, checkPlaceholders)
	case "db":
		return set(d, "db <number>", &r.DB, parseDB)
	case "tls", "cluster":
		r.TLS, r.Cluster = r.TLS || name == "tls", r.Cluster || name == "cluster"
		_, err := arguments(d, name, 0, 0)
		return err
	case "key_prefix":
		return setText(d, "key_prefix <prefix>", &r.KeyPrefix, checkKeyPrefix)
	case "timeout":
		return setDuration(d, name, &r.Timeout)
	case "spool":
		args, err := arguments(d, "spool [<path>], or spool off", 0, 1)
		if err != nil {
			return err
		}
		r.Spool = new(RedisSpool)
		switch {
		case len(args) == 0:
		case args[0] == "":
			return d.Errf("spool: expected spool [<path>], or spool off, got an empty text")
		case args[0] == "off":
			r.Spool.Off = true
		default:
			r.Spool.Path = args[0]
		}
		if err := checkPlaceholders(r.Spool.Path); err != nil {
			return d.Errf("spool: %w", err)
		}
		return nil
	case "durability":
		return setText(d, "durability memory|replica", &r.Durability, checkDurability)
	case "partitions":
		return set(d, "partitions <number>", &r.Partitions, parsePartitions)
	}
	return errUnknown(d, "master_name, username, password, db, tls, cluster, key_prefix, timeout, spool, durability or partitions")
}
