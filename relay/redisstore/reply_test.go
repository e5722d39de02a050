package redisstore

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// answer is an error as Redis answers it.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

// Only what an accept is refused for itself may count towards setting it aside.
func TestWhoseFault(t *testing.T) {
	own := []string{
		"ERR Protocol error: invalid bulk length",
		"WRONGTYPE Operation against a key holding the wrong kind of value script: 0831e2c9, on @user_script:1.",
		"ERR user_script:1: attempt to index local 'x' (a nil value) script: cf0efd78, on @user_script:1.",
		"ERR Error running script (call to f_0831e2c9): @user_script:1: WRONGTYPE Operation against a key holding the wrong kind of value",
		"ERR Error running script (call to f_cf0efd78): @user_script:1: user_script:1: attempt to index local 'x' (a nil value)",
	}
	outages := []string{
		"WRONGPASS invalid username-password pair or user is disabled.",
		"NOAUTH Authentication required.",
		"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used",
		"NOPERM this user has no permissions to run the 'evalsha' command",
		"NOPERM this user has no permissions to access one of the keys used as arguments",
		"NOPERM this user has no permissions to access one of the channels used as arguments",
		"ERR The user executing the script can't run this command or subcommand script: 2248ea7f, on @user_script:1.",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 217c860a, on @user_script:1.",
		"ERR Unknown Redis command called from script script: b32b5a01, on @user_script:1.",
		"ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'",
		"ERR Error running script (call to f_2248ea7f): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand",
		"ERR Error running script (call to f_2248ea7f): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.",
		"ERR Error running script (call to f_2248ea7f): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
		"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
		"ERR unknown command 'evalsha', with args beginning with: ",
		"ERR max number of clients reached",
		"ERR Protocol error: unauthenticated bulk length",
		"LOADING Redis is loading the dataset in memory",
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
		"READONLY You can't write against a read only replica. script: 0831e2c9, on @user_script:1.",
		"CLUSTERDOWN The cluster is down",
		"TRYAGAIN Multiple keys request during rehashing of slot",
		"MOVED 1234 127.0.0.1:7001",
		"OOM command not allowed when used memory > 'maxmemory'. script: 0831e2c9, on @user_script:1.",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"NOREPLICAS Not enough good replicas to write.",
		"EXECABORT Transaction discarded because of previous errors.",
		"UNKILLABLE Sorry the script already executed write commands against the dataset.",
		"DENIED Redis is running in protected mode",
	}
	for _, text := range own {
		if err := explain(answer(text)); errors.Is(err, relay.ErrUnavailable) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is taken for an outage: %v", text, err)
		}
	}
	for _, text := range outages {
		if err := explain(answer(text)); !errors.Is(err, relay.ErrUnavailable) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is taken for the accept's own fault: %v", text, err)
		}
	}
	if err := explain(redis.Nil); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("no reply is %v", err)
	}
}

// A right that the user lacks is told with what to do, whether Redis finds it missing before a script or within one.
func TestRemedyOfARight(t *testing.T) {
	for _, text := range []string{
		"NOPERM this user has no permissions to run the 'evalsha' command",
		"ERR The user executing the script can't run this command or subcommand script: 2248ea7f, on @user_script:1.",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 217c860a, on @user_script:1.",
		"ERR Error running script (call to f_2248ea7f): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand",
	} {
		if err := explain(answer(text)); !strings.HasSuffix(err.Error(), "(the user of the store lacks a right in Redis: grant what the documentation lists for it)") {
			t.Errorf("%q is told without a remedy: %v", text, err)
		}
	}
}

// A reply that the script does not return is an outage, whatever the call.
func TestUnexpectedReplies(t *testing.T) {
	replies := []any{
		nil, "OK", int64(9),
		[]any{},
		[]any{nil},
		[]any{"PONG"},
		[]any{int64(1)},
		[]any{"1", "2", "3"},
		[]any{int64(1), "id", "three", int64(0), int64(0)},
		[]any{int64(1), "id", int64(3), int64(0), int64(0), int64(0), int64(0)},
		[]any{int64(7), "id", int64(3), int64(0), int64(0)},
		[]any{int64(2), int64(2), int64(2), int64(2)},
	}
	for _, reply := range replies { // the same in the place of what is returned of an operation
		replies = append(replies, []any{reply})
	}
	s := &Store{keys: keys{"relay"}}
	h := newLayout(s.keys, 1).of("vocals")[0]
	for _, reply := range replies {
		want := func(call string, err error) {
			t.Helper()
			if !errors.Is(err, relay.ErrUnavailable) || strings.Contains(err.Error(), "<nil>") {
				t.Errorf("%s: %#v became %v", call, reply, err)
			}
		}
		of := func(script *script) *call { return &call{script: script, reply: reply} }
		a := &relay.Accept{Event: &relay.Event{Source: "vocals"}, Deliveries: []relay.NewDelivery{{Destination: "one"}}}
		s.acceptedAll(h, []*relay.Accept{a}, of(acceptScript))
		want("accept", a.Err)
		a.Again = true
		s.acceptedAll(h, []*relay.Accept{a}, of(acceptScript))
		want("accept again", a.Err)
		op := &relay.Settle{Leased: &relay.Leased{Event: a.Event, Destination: "one"}}
		s.settledAll(h, []settling{{ops: []*relay.Settle{op}}}, of(settleScript))
		if !reflect.DeepEqual(reply, []any{int64(1)}) { // that is what it returns of a settle of which nothing else came
			want("settle", op.Err)
		}
		asked := &leasingShard{shard: h, op: &relay.Lease{Source: "vocals", Destination: "one"}}
		(&round{calls: []*call{of(leaseScript)}, asked: [][]*leasingShard{{asked}}}).done()
		_, _, _, err := s.leased(asked)
		want("lease", err)
		_, err = of(watchScript).watched(1)
		want("watch", err)
		if _, ok := reply.(int64); !ok {
			_, err = of(discardScript).count()
			want("discard", err)
		}
	}
	values := redis.NewSliceCmd(t.Context())
	values.SetVal([]any{"one"})
	if _, err := fields(values, 2); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a short list of values became %v", err)
	}
}

// What an operator must know of Redis's persistence is said once, until it changes.
func TestPersistenceWarnings(t *testing.T) {
	good := report{run: "a", policy: safePolicy, room: -1, appendonly: "yes", appendfsync: "everysec", delayed: 5}
	with := func(change func(*report)) report { r := good; change(&r); return r }
	off := with(func(r *report) { r.appendonly, r.delayed = "no", -1 })
	lax := with(func(r *report) { r.appendfsync = "no" })
	silent := with(func(r *report) { r.appendonly, r.appendfsync, r.delayed = unknown, unknown, -1 })
	slow := func(n int64) report { return with(func(r *report) { r.delayed = n }) }
	other := with(func(r *report) { r.run, r.delayed = "b", 70 })
	for name, looks := range map[string][]struct {
		of   []report
		want string // in the only warning; none if empty
	}{
		"as it should be": {{[]report{good}, ""}, {[]report{good}, ""}},
		"off at start":    {{[]report{off}, "appendonly is no: a restart"}, {[]report{off}, ""}},
		"switched off and on": {
			{[]report{good}, ""},
			{[]report{off}, "appendonly was changed from yes to no: a restart"},
			{[]report{off}, ""},
			{[]report{good}, "appendonly was changed from no to yes"},
			{[]report{good}, ""},
		},
		"another fsync":      {{[]report{good}, ""}, {[]report{lax}, "appendfsync was changed from everysec to no: a crash"}, {[]report{lax}, ""}},
		"unknown":            {{[]report{silent}, ""}, {[]report{good}, ""}, {[]report{silent}, ""}},
		"one of two masters": {{[]report{good, other}, ""}, {[]report{with(func(r *report) { r.appendonly = "no" }), other}, "appendonly was changed"}},
		"a slow disk": {
			{[]report{good}, ""},
			{[]report{slow(6)}, "aof_delayed_fsync has grown to 6"},
			{[]report{slow(9)}, ""},
			{[]report{slow(9)}, ""},
			{[]report{slow(10)}, "aof_delayed_fsync has grown to 10"},
		},
		"a failover is no growth": {{[]report{good}, ""}, {[]report{other}, ""}},
	} {
		var s seen
		for i, look := range looks {
			got := s.take(look.of)
			if look.want == "" && len(got) > 0 || look.want != "" && (len(got) != 1 || !strings.Contains(got[0], look.want)) {
				t.Errorf("%s, look %d: warnings are %q, want %q", name, i, got, look.want)
			}
		}
	}
	var s seen
	s.take([]report{good, silent})
	var info relay.StoreInfo
	if s.info(&info); info.AppendOnly != unknown || info.AppendFsync != unknown || info.AOFDelayedFsync == nil || *info.AOFDelayedFsync != 5 {
		t.Errorf("of two masters, one of which does not say, it shows %+v", info)
	}
}
