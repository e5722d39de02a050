package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// The account that the gateways have at Redis; the driver uses another.
const (
	redisUser     = "relay"
	redisPassword = "chaos"
)

// redis is the Redis that gateways share: one server, or a master and a replica with a Sentinel.
type redis struct {
	servers  []*servers.Redis
	sentinel *servers.Redis // nil where there is one server

	fate sync.Mutex // held by the fault that has harmed it
}

// newRedis starts the servers. They are ended by close, also after an error.
func newRedis(dir, appendFsync string, failover bool) (*redis, error) {
	r := &redis{}
	add := func(name string, args ...string) (*servers.Redis, error) {
		own := filepath.Join(dir, name)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return nil, err
		}
		server, err := servers.NewRedis(own, append([]string{
			"--appendfsync", appendFsync, "--repl-diskless-sync-delay", "0",
			"--user", redisUser, "on", ">" + redisPassword, "~*", "&*", "+@all",
		}, args...)...)
		if err != nil {
			return nil, err
		}
		r.servers = append(r.servers, server)
		return server, server.Start()
	}
	master, err := add("redis")
	if err != nil || !failover {
		return r, err
	}
	if _, err := add("replica", "--replicaof", strings.Replace(master.Address, ":", " ", 1)); err != nil {
		return r, err
	}
	if r.sentinel, err = servers.NewSentinel(dir, master); err != nil {
		return r, err
	}
	if err := r.sentinel.Start(); err != nil {
		return r, err
	}
	return r, until(context.Background(), patience, "the Sentinel knows the replica", func() error {
		info, err := r.sentinel.Do("INFO sentinel")
		if err == nil && !strings.Contains(info, "slaves=1") {
			err = errors.New(info)
		}
		return err
	})
}

var masterAddress = regexp.MustCompile(`address=([^,]+),`)

// master returns the server that is the master.
func (r *redis) master() (*servers.Redis, error) {
	if r.sentinel == nil {
		return r.servers[0], nil
	}
	info, err := r.sentinel.Do("INFO sentinel")
	if err != nil {
		return nil, err
	}
	if found := masterAddress.FindStringSubmatch(info); found != nil {
		for _, s := range r.servers {
			if s.Address == found[1] {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("the Sentinel knows no master: %s", info)
}

// noteFailovers records each failover as a fault, until ctx ends: a Sentinel promotes the replica too where the machine is too busy for
// the master to answer it. The fault lasts until the former master is a replica: till then it may take what is lost with it.
func (r *redis) noteFailovers(ctx context.Context, l *ledger) {
	var former *servers.Redis
	over := func() {}
	for ; ctx.Err() == nil; wait(ctx, 50*time.Millisecond) {
		master, err := r.master()
		if err != nil {
			continue
		}
		if former != nil && master != former {
			over()
			over = l.begin("failover", -1)
		}
		former = master
		if r.settled(master) {
			over()
			over = func() {}
		}
	}
	over()
}

// settled reports whether all others follow the master.
func (r *redis) settled(master *servers.Redis) bool {
	for _, s := range r.servers {
		if s == master {
			continue
		}
		if info, err := s.Do("INFO replication"); err != nil || !strings.Contains(info, "role:slave") {
			return false
		}
	}
	return true
}

// failsOver reports whether a Sentinel may promote a replica. There may be no Redis.
func (r *redis) failsOver() bool { return r != nil && r.sentinel != nil }

// store returns the arguments of the gateways' `store` option.
func (r *redis) store() string {
	address, more := r.servers[0].Address, ""
	if r.sentinel != nil {
		address, more = r.sentinel.Address, "\n\t\t\tmaster_name "+servers.MasterName+"\n\t\t\tdurability replica"
	}
	return fmt.Sprintf("redis %s {\n\t\t\tusername %s\n\t\t\tpassword %s\n\t\t\ttimeout 1s%s\n\t\t}", address, redisUser, redisPassword, more)
}

// close ends the servers.
func (r *redis) close() {
	for _, s := range append(r.servers, r.sentinel) {
		if s != nil {
			s.Kill()
		}
	}
}
