// Package redisstore keeps events in Redis: standalone, behind Sentinel, or a Cluster. Any number of gateways may share
// one. Every change is a Lua script that touches the keys of one partition of a source; keys.go names them all.
package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Durability names what must have an event before it counts as stored.
type Durability string

const (
	// DurabilityMemory: the master has it. What a crash of Redis loses is what its own persistence says.
	DurabilityMemory Durability = "memory"
	// DurabilityReplica: a replica has it too.
	DurabilityReplica Durability = "replica"
)

// DefaultTimeout is how long one batch may take.
const DefaultTimeout = 2 * time.Second

// operatorTimeout bounds what an operator waits for and no callback does: a list, an event, a step of bulk work. Redis may need
// longer for it than a batch may take, and there is nothing to fall back to.
const operatorTimeout = 10 * time.Second

// Options name the Redis to use, and set how to use it.
type Options struct {
	// Addresses are host:port. Several are a Cluster, or with MasterName the Sentinels. Default: 127.0.0.1:6379.
	Addresses  []string
	MasterName string
	Username   string
	Password   string
	// Credentials is asked for user and password before each use of a connection, in place of Username and Password; nil: those
	// are used. A connection that was opened with others is replaced. It must not block.
	Credentials func() (username, password string)
	DB          int
	TLS         *tls.Config // nil: no TLS
	Cluster     bool        // one address that is a Cluster
	KeyPrefix   string      // default: relay
	// Partitions is how many each source has, 1 to MaxPartitions: on a Cluster they spread it over the masters. A prefix keeps
	// the number that it was written with. Default: 1, and 16 on a Cluster, where a prefix that has 1 keeps that.
	Partitions int
	// Timeout bounds one batch, its wait for a replica included. Default: 2s.
	Timeout    time.Duration
	Durability Durability
	// Node is the name under which other gateways see this one. Default: the host's name.
	Node   string
	Logger *slog.Logger
}

// Store implements relay.Store.
type Store struct {
	options Options
	client  redis.UniversalClient
	keys    keys
	log     *slog.Logger
	self    string // names this process among those that share the store

	partitions int                             // that sources are to have
	layout     atomic.Pointer[layout]          // nil until their number is known
	claimed    atomic.Bool                     // it was in Redis
	misfit     atomic.Pointer[PartitionsError] // the prefix has another number

	tally     tally
	taskTally taskTally
	seen      seen
	horizon   horizon
	recent    recent
	turns     atomic.Uint32 // leases so far, in whose turn partitions are asked

	wakeups chan relay.DestinationName
	news    chan struct{} // capacity 1: something is dirty
	beats   chan struct{} // capacity 1: beat now

	mu      sync.Mutex
	sources map[string]bool // in the registry, as far as is known
	used    map[string]bool // used by this process: they must be in the registry
	dirty   map[relay.DestinationName]bool
	config  string // hash of this node's sources
	nodes   []relay.NodeStatus

	troubles troubles

	leaving context.Context // ends when Close has waited for a batch's time, and with it what operators wait for
	leave   context.CancelFunc
	closing context.Context
	close   context.CancelFunc
	calls   sync.WaitGroup // calls under way
	loops   sync.WaitGroup
	closed  bool
}

var (
	_ relay.Store       = (*Store)(nil)
	_ relay.SharedStore = (*Store)(nil)
)

// Open makes the store. Redis need not be up: it is connected to as it is used. What it holds is counted at once, where
// that takes no longer than ctx and the timeout allow.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	logs.add(o.Logger)
	s := &Store{
		options:    o,
		client:     newClient(o),
		keys:       keys{o.KeyPrefix},
		partitions: o.partitions(),
		log:        o.Logger,
		self:       rand.Text(),
		wakeups:    make(chan relay.DestinationName, 1024),
		news:       make(chan struct{}, 1),
		beats:      make(chan struct{}, 1),
		sources:    map[string]bool{},
		used:       map[string]bool{},
		dirty:      map[relay.DestinationName]bool{},
	}
	s.leaving, s.leave = context.WithCancel(context.Background())
	s.closing, s.close = context.WithCancel(context.Background())
	s.watch(ctx)
	if misfit := s.misfit.Load(); misfit != nil {
		return nil, errors.Join(misfit, s.Close())
	}
	s.loops.Go(s.watchLoop)
	s.loops.Go(s.beatLoop)
	s.loops.Go(s.tellLoop)
	s.loops.Go(s.listenLoop)
	return s, nil
}

func (o *Options) complete() error {
	if len(o.Addresses) == 0 {
		o.Addresses = []string{"127.0.0.1:6379"}
	}
	if o.KeyPrefix == "" {
		o.KeyPrefix = "relay"
	}
	if strings.ContainsAny(o.KeyPrefix, "{}") {
		return errors.New("redis: the key prefix must not contain braces: they say which slot of a Cluster a key is in")
	}
	if o.isCluster() && o.DB != 0 {
		return errors.New("redis: a Cluster has only db 0")
	}
	if o.Partitions < 0 || o.Partitions > MaxPartitions {
		return fmt.Errorf("redis: a source has 1 to %d partitions, not %d", MaxPartitions, o.Partitions)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	switch o.Durability {
	case "":
		o.Durability = DurabilityMemory
	case DurabilityMemory, DurabilityReplica:
	default:
		return fmt.Errorf("redis: durability is memory or replica, not %q", o.Durability)
	}
	if o.Node == "" {
		o.Node, _ = os.Hostname() // an empty name says as much as an error would
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// partitions returns how many partitions a source is to have.
func (o *Options) partitions() int {
	switch {
	case o.Partitions > 0:
		return o.Partitions
	case o.isCluster():
		return clusterPartitions
	}
	return 1
}

// Parted reports whether a source may have several partitions.
func (o *Options) Parted() bool { return o.partitions() > 1 }

func (o *Options) isCluster() bool { return (o.Cluster || len(o.Addresses) > 1) && o.MasterName == "" }

// hold keeps the store open for a call, until the function it returns is called.
func (s *Store) hold(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, relay.ErrClosed
	}
	s.calls.Add(1)
	return ctx, s.calls.Done, nil
}

// holdBriefly holds, and bounds the call by the timeout.
func (s *Store) holdBriefly(ctx context.Context) (context.Context, func(), error) {
	ctx, leave, err := s.hold(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	return ctx, func() { cancel(); leave() }, nil
}

// enter holds the store open for a call that goes to partitions, whose number is known then.
func (s *Store) enter(ctx context.Context) (context.Context, func(), error) {
	return s.toShards(s.hold(ctx))
}

// begin enters, and bounds the call by the timeout.
func (s *Store) begin(ctx context.Context) (context.Context, func(), error) {
	return s.toShards(s.holdBriefly(ctx))
}

// beginForOperator enters, and bounds the call by the time that an operator waits.
func (s *Store) beginForOperator(ctx context.Context) (context.Context, func(), error) {
	ctx, leave, err := s.hold(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(operatorTimeout, s.options.Timeout))
	stop := context.AfterFunc(s.leaving, cancel)
	return s.toShards(ctx, func() { stop(); cancel(); leave() }, nil)
}

func (s *Store) toShards(ctx context.Context, leave func(), err error) (context.Context, func(), error) {
	if err != nil {
		return nil, nil, err
	}
	if err := s.learn(ctx, false); err != nil {
		leave()
		return nil, nil, err
	}
	return ctx, leave, nil
}

// Info implements relay.Store.
func (s *Store) Info() relay.StoreInfo {
	location := strings.Join(s.options.Addresses, ",")
	if s.options.MasterName != "" {
		location = s.options.MasterName + "@" + location
	}
	info := relay.StoreInfo{
		Driver:   "redis",
		Location: fmt.Sprintf("%s/%d?prefix=%s", location, s.options.DB, s.options.KeyPrefix),
		Unread:   s.layout.Load() == nil,
	}
	s.seen.info(&info)
	return info
}

// Counts implements relay.Store.
func (s *Store) Counts() []relay.Count { return s.tally.list() }

// Close implements relay.Store. Leases that are still held end with their time.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	// go-redis heeds the deadline of a context, and not its end: what waits for an answer ends with its connection.
	late := time.AfterFunc(s.options.Timeout, func() { s.leave(); _ = s.client.Close() })
	s.calls.Wait()
	late.Stop()
	s.leave()
	s.close()
	s.loops.Wait()
	defer logs.remove(s.log)
	if err := s.client.Close(); !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

// PerSource implements relay.Store: each source has scripts of its own.
func (s *Store) PerSource() bool { return true }
