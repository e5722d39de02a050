package redisstore

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialer connects to a master that Sentinels name, and to them. go-redis asks the Sentinel that it knows before it asks the
// others, and to find the master is part of connecting to it: a Sentinel that hangs must fail well before that does.
func dialer(o Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	share := o.Timeout / 4
	toMaster := redis.NewDialer(&redis.Options{DialTimeout: o.Timeout, TLSConfig: o.TLS})
	toSentinel := redis.NewDialer(&redis.Options{DialTimeout: share, TLSConfig: o.TLS})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !slices.Contains(o.Addresses, address) {
			return toMaster(ctx, network, address)
		}
		conn, err := toSentinel(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return hastyConn{conn, share}, nil
	}
}

// hastyConn brings deadlines forward. Where there is none (a subscription waits for as long as it takes) there is none.
type hastyConn struct {
	net.Conn
	longest time.Duration
}

func (c hastyConn) SetDeadline(t time.Time) error     { return c.Conn.SetDeadline(c.soon(t)) }
func (c hastyConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.soon(t)) }

func (c hastyConn) soon(t time.Time) time.Time {
	if latest := time.Now().Add(c.longest); t.After(latest) {
		return latest
	}
	return t
}
