package redisstore

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// credentials is a user with a password.
type credentials struct{ username, password string }

// credentialsHook has connections replaced, as they are used next, that were opened with other credentials than the current
// ones. Redis goes by whoever has opened a connection for as long as that lasts, and go-redis keeps one that answers NOPERM.
type credentialsHook struct {
	current func() (username, password string)
}

func (h credentialsHook) now() (c credentials) {
	c.username, c.password = h.current()
	return c
}

func (credentialsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (credentialsHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// DialHook notes the credentials before go-redis asks for them: should they change in between, the connection is replaced once
// more than it had to be.
func (h credentialsHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		with := h.now()
		conn, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return openedConn{conn, h, with}, nil
	}
}

// openedConn is a connection with the credentials that it was opened with.
type openedConn struct {
	net.Conn
	hook credentialsHook
	with credentials
}

var errOutdated = errors.New("opened with credentials that have changed since")

// SyscallConn implements syscall.Conn, by which go-redis looks at a connection before it uses it again. An error has it open
// another one.
func (c openedConn) SyscallConn() (syscall.RawConn, error) {
	if c.hook.now() != c.with {
		return nil, errOutdated
	}
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return opaque{}, nil
}

// opaque is a connection below which there is nothing to see, as below one with TLS.
type opaque struct{}

func (opaque) Control(func(uintptr)) error    { return nil }
func (opaque) Read(func(uintptr) bool) error  { return nil }
func (opaque) Write(func(uintptr) bool) error { return nil }
