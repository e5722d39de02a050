package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func newClient(o Options) redis.UniversalClient {
	u := &redis.UniversalOptions{
		Addrs:         o.Addresses,
		MasterName:    o.MasterName,
		Username:      o.Username,
		Password:      o.Password,
		DB:            o.DB,
		TLSConfig:     o.TLS,
		IsClusterMode: o.Cluster,
		Protocol:      2,

		CredentialsProvider: o.Credentials, // nil: Username and Password

		// A context's deadline counts, and nothing is sent twice but by the store itself, which knows what may be.
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           o.Timeout,
		PoolTimeout:           o.Timeout,
		ReadTimeout:           max(o.Timeout, operatorTimeout) + 3*time.Second,
		WriteTimeout:          max(o.Timeout, operatorTimeout) + 3*time.Second,

		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.MasterName != "" {
		u.Dialer = dialer(o)
	}
	client := redis.NewUniversalClient(u)
	if o.MasterName != "" {
		client.AddHook(masterHook{})
	}
	hooks := []redis.Hook{reasonHook{}}
	if o.Credentials != nil {
		hooks = append(hooks, credentialsHook{o.Credentials})
	}
	add := func(to interface{ AddHook(redis.Hook) }) {
		for _, h := range hooks {
			to.AddHook(h)
		}
	}
	add(client)
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { add(node) })
	}
	return client
}

// turnedAway are answers to HELLO that are no matter of HELLO: Redis takes no more connections, or none without a password.
var turnedAway = []string{"ERR max number of clients", "DENIED", "NOAUTH"}

// reasonHook makes sure that what fails is known to have failed, and by what.
type reasonHook struct{}

func (reasonHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook keeps go-redis from taking any error of HELLO for that of a server without it: it would go on, with a
// connection that is closed or has no user.
func (reasonHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil && cmd.Name() == "hello" && slices.ContainsFunc(turnedAway, func(p string) bool { return strings.HasPrefix(err.Error(), p) }) {
			return errors.New(err.Error()) // no redis.Error any more
		}
		return err
	}
}

// ProcessPipelineHook marks commands that were never sent. go-redis takes an error that Redis has answered for that of a
// command in the pipeline, even if it is that of the connection's AUTH or SELECT, and leaves all commands without one.
func (reasonHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil && !slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
			for _, c := range cmds {
				c.SetErr(err)
			}
		}
		return err
	}
}
