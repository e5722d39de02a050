package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// lastPort is the port that was returned last. They are below those that the system gives to outgoing connections.
var lastPort atomic.Int32

func init() { lastPort.Store(10_000 + rand.Int32N(15_000)) }

// FreeAddress returns an address of loopback that nobody listens on, and never one twice: Caddy shares ports with whoever
// has them, so that two gateways on one port would go unnoticed.
func FreeAddress() (string, error) {
	for range 1000 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lastPort.Add(1)))
		if err != nil {
			continue // somebody else's
		}
		return listener.Addr().String(), listener.Close()
	}
	return "", errors.New("no port is free")
}

// listenWithin is how long Listen waits for an address.
const listenWithin = 10 * time.Second

// Listen listens on an address that a listener of this process has left, perhaps just now: a child has that open too, from the
// moment when it is forked until its program begins.
func Listen(address string) (net.Listener, error) {
	deadline := time.NewTimer(listenWithin)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		listener, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return listener, err
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return nil, err
		}
	}
}

// DialAny returns a dialer that connects to one address after the other, as a load balancer does, and to the next where nobody
// listens. It is a Transport's DialContext, and leaves aside the address that it is asked for.
func DialAny(addresses ...string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	var turn atomic.Int32
	return func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		first := int(turn.Add(1))
		for i := range addresses {
			conn, err = new(net.Dialer).DialContext(ctx, network, addresses[(first+i)%len(addresses)])
			if err == nil {
				break
			}
		}
		return conn, err
	}
}
