package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// While Redis refuses the gateway, whatever the reason, callbacks are answered from the spool; all are delivered once it is
// mended, and nothing is set aside.
func TestRedisRefusesTheGateway(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	user := func(args ...any) { redis.Do(t, append([]any{"ACL", "SETUSER", "gateway"}, args...)...) }
	mend := func() {
		user("reset", "on", ">secret", "~relay:*", "&relay:wake", "+@all", "-@admin", "-@dangerous", "+info")
	}
	mend()
	for name, fault := range map[string]struct {
		begin  func()
		reason string
	}{
		"restarted without the user": {func() { redis.Kill(); redis.Restart(t) }, "WRONGPASS"},
		"no right to write":          {func() { user("-hset") }, "can't run this command"},
	} {
		t.Run(name, func(t *testing.T) {
			redis.Do(t, "FLUSHALL") // of this test's own server
			c := newConsumer(t, nil)
			g := newSharedGateway(t, redisstore.Options{Addresses: []string{redis.Addr}, Username: "gateway", Password: "secret"}, newShortSource(t, c))
			l := newLoad(t, g)
			l.during(50)
			fault.begin()
			redistest.Eventually(t, 20*time.Second, "the spool takes callbacks", func() bool { return g.Status(context.Background()).Spool.Events > 0 })
			redistest.Eventually(t, 20*time.Second, "status says why", func() bool {
				s := g.Status(context.Background()).Store
				return !s.Up && strings.Contains(s.Error, fault.reason)
			})
			l.during(200)
			mend()
			l.during(100)
			l.end(c, g)
			if st := g.Status(context.Background()).Spool; st.Stuck > 0 {
				t.Errorf("%d callbacks were set aside", st.Stuck)
			}
		})
	}
}
