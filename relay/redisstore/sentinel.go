package redisstore

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// networkOfMaster is how a dialer recognises a master: go-redis dials Sentinels, which it may have learned of from each
// other, by the same function.
const networkOfMaster = "master"

// masterHook marks what a client dials itself, which are masters. The clients by which it asks Sentinels have no hooks.
type masterHook struct{}

func (masterHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (masterHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (masterHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return next(ctx, networkOfMaster, address)
	}
}

// dialer connects to a master that Sentinels name, and to them. go-redis asks the Sentinel that it knows before it asks all
// others at once and waits for each of them, and to find the master is part of connecting to it: a Sentinel that hangs must
// fail well before that does.
func dialer(o Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	share := o.Timeout / 5
	toMaster := redis.NewDialer(&redis.Options{DialTimeout: o.Timeout, TLSConfig: o.TLS})
	toSentinel := redis.NewDialer(&redis.Options{DialTimeout: share, TLSConfig: o.TLS})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == networkOfMaster {
			return toMaster(ctx, "tcp", address)
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
