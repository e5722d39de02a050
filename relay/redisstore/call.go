package redisstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// call is one run of a script.
type call struct {
	script  *script
	keys    []string
	args    []any
	durable bool // a replica must have what it wrote, where durability asks for one

	cmd   *redis.Cmd
	reply any
	err   error
}

// once is a command that go-redis does not send again when a connection is lost before the answer. It still follows a
// Cluster's redirections, which say that nothing was done.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// command makes the command: by the script's name, or with its whole text, which teaches Redis the name.
func (c *call) command(ctx context.Context, whole bool) once {
	args := make([]any, 0, 3+len(c.keys)+len(c.args))
	if whole {
		args = append(args, "eval", c.script.text, len(c.keys))
	} else {
		args = append(args, "evalsha", c.script.sha, len(c.keys))
	}
	for _, k := range c.keys {
		args = append(args, k)
	}
	args = append(args, c.args...)
	c.cmd = redis.NewCmd(ctx, args...)
	c.cmd.SetFirstKeyPos(3)
	return once{c.cmd}
}

// list returns the values that a script has returned, one for each of n operations; nils with an error.
func (c *call) list(n int) ([]any, error) {
	list, _ := c.reply.([]any)
	switch {
	case c.err != nil:
		return make([]any, n), c.err
	case len(list) != n:
		return make([]any, n), malformed(c.script.name, c.reply)
	}
	return list, nil
}

// run runs scripts in one pipeline, in order as far as they are of one source. Each call has its own error.
func (s *Store) run(ctx context.Context, calls ...*call) {
	s.send(ctx, calls, false)
	var unknown []*call
	for _, c := range calls {
		if redis.HasErrorPrefix(c.err, "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	if len(unknown) > 0 { // Redis was restarted, failed over, or is new
		s.send(ctx, unknown, true)
	}
	for _, c := range calls {
		c.err = explain(c.err)
	}
}

func (s *Store) send(ctx context.Context, calls []*call, whole bool) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		s.pipeline(ctx, s.client, calls, whole)
		return
	}
	defer func() {
		if slices.ContainsFunc(calls, func(c *call) bool { return movedOn(c.err) }) {
			cluster.ReloadState(ctx) // the next try finds the new master
		}
	}()
	if s.options.Durability != DurabilityReplica {
		s.pipeline(ctx, cluster, calls, whole)
		return
	}
	// WAIT speaks for its own connection only, and a Cluster's client would route it anywhere.
	masters := map[*redis.Client][]*call{}
	for _, c := range calls {
		master, err := cluster.MasterForKey(ctx, c.keys[0])
		if err != nil {
			c.err = err
			continue
		}
		masters[master] = append(masters[master], c)
	}
	var wg sync.WaitGroup
	for master, calls := range masters {
		wg.Go(func() { s.pipeline(ctx, master, calls, whole) })
	}
	wg.Wait()
}

// movedOn reports whether another node of the Cluster may have the slot by now, because the one that had it says so, is
// no master any more, or does not answer.
func movedOn(err error) bool {
	var reply redis.Error
	return err != nil && (!errors.As(err, &reply) || redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "READONLY"))
}

// pipeline sends calls down one connection (of each master, if client is a Cluster's).
func (s *Store) pipeline(ctx context.Context, client redis.Cmdable, calls []*call, whole bool) {
	pipe := client.Pipeline()
	durable := false
	for _, c := range calls {
		durable = durable || c.durable
		_ = pipe.Process(ctx, c.command(ctx, whole)) // only queues
	}
	var wait *redis.Cmd
	if durable && s.options.Durability == DurabilityReplica {
		wait = redis.NewCmd(ctx, "wait", 1, max(1, s.patience(ctx).Milliseconds()))
		_ = pipe.Process(ctx, once{wait})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var short error
	if wait != nil {
		n, err := wait.Int()
		switch {
		case err != nil:
			short = err
		case n < 1:
			short = errNotReplicated
		}
	}
	for _, c := range calls {
		c.reply, c.err = c.cmd.Result()
		if c.err == nil && c.durable {
			c.err = short
		}
	}
}

var errNotReplicated = errors.New("no replica has it yet")

// patience is how long WAIT may take, so that its answer still arrives in time.
func (s *Store) patience(ctx context.Context) time.Duration {
	left := s.options.Timeout
	if by, ok := ctx.Deadline(); ok {
		left = time.Until(by)
	}
	return left * 3 / 4
}

// refusals are the errors by which Redis refuses an accept for what it is: it is too large for Redis's protocol
// (proto-max-bulk-len), a key that it needs holds something else, or the script stumbles over what it says or over a record
// that it leads to. All else says nothing about the accept: Redis is full, loading, failing over, moving a slot, or takes
// neither password, user, command, key nor script. That passes by itself, or once an operator has mended it.
//
// Redis before 7.0 wraps what a command or the script itself ended in, and marks the latter by the script's name alone.
var refusals = regexp.MustCompile(`^ERR Protocol error: invalid (bulk|multibulk) length` +
	`|^(ERR Error running script \(call to f_\w+\): @user_script:\d+: )?-?WRONGTYPE ` +
	`|^ERR (Error running script \(call to f_\w+\): @user_script:\d+: )?user_script:\d+: `)

// explain makes an error of Redis one of the store: of an outage, unless Redis refuses what was to be done for what it is.
func explain(err error) error {
	if err == nil || errors.Is(err, relay.ErrUnavailable) {
		return err
	}
	if reply, ok := errors.AsType[redis.Error](err); ok && refusals.MatchString(reply.Error()) {
		return fmt.Errorf("%w: redis: %w", relay.ErrRefused, err)
	}
	return fmt.Errorf("%w: redis: %w%s", relay.ErrUnavailable, err, remedy(err))
}

const lacksRight = "the user of the store lacks a right in Redis: grant what the documentation lists for it"

// remedies list what to do about answers that blame the gateway's own settings in Redis's words.
var remedies = []struct{ words, text string }{
	{"WRONGPASS", "Redis does not know this user with this password: check username and password of the store, and whether Redis has switched the user off"},
	{"NOAUTH", "Redis wants a password: set password in the store, and username if the user is not default"},
	{"NOPERM", lacksRight},
	{"The user executing the script can't", lacksRight},
}

// remedy returns what to do about an answer of Redis; nothing where the answer says it itself.
func remedy(err error) string {
	for _, r := range remedies {
		if strings.Contains(err.Error(), r.words) {
			return " (" + r.text + ")"
		}
	}
	return ""
}
