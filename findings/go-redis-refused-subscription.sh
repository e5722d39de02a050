#!/bin/sh
# go-redis 9.23.0 with Redis 7.0.15: a subscription that was refused once is not made when it would be allowed.
#
# Expected: the channel of a PubSub is kept subscribed: go-redis pings its connection and subscribes anew when that fails.
#           So once an operator grants the user the Pub/Sub channel that was forgotten, messages arrive.
# Actual:   the refusal (NOPERM) is an answer like any other. The connection keeps answering pings, so it counts as
#           healthy, and nothing subscribes again; until the connection happens to break, whereupon the same PubSub
#           subscribes.
set -eu
redis=5:7.0.15-1~deb12u10
temp=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server"; } || true; rm -rf "$temp"' EXIT
cd "$temp"

# Debian's packages, unpacked without installing them.
if ! apt-get download "redis-server=$redis" "redis-tools=$redis" libjemalloc2 liblzf1 libatomic1 >apt.log 2>&1; then
	echo "Redis $redis cannot be downloaded: this needs Debian 12 after apt-get update, and a pin that is still offered" >&2
	exit 2
fi
for package in *.deb; do dpkg-deb -x "$package" root; done
libraries=$(echo root/usr/lib/*-linux-gnu*)
LD_LIBRARY_PATH=$libraries root/usr/bin/redis-server --port 0 --unixsocket "$temp/redis.sock" --save '' >redis.log &
server=$!

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const check = 100 * time.Millisecond // how often go-redis looks at the connection of the PubSub

func main() {
	ctx := context.Background()
	admin := redis.NewClient(&redis.Options{Network: "unix", Addr: os.Args[1]})
	within := func(limit time.Duration, ok func() bool) bool {
		for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(check) {
			if ok() {
				return true
			}
		}
		return false
	}
	if !within(10*time.Second, func() bool { return admin.Ping(ctx).Err() == nil }) {
		fmt.Println("Redis did not start")
		os.Exit(2)
	}
	admin.Do(ctx, "ACL", "SETUSER", "reader", "on", ">password", "resetchannels", "+@all")

	reader := redis.NewClient(&redis.Options{Network: "unix", Addr: os.Args[1], Username: "reader", Password: "password"})
	subscription := reader.Subscribe(ctx, "news")
	refusal := error(nil)
	for refusal == nil {
		_, refusal = subscription.Receive(ctx)
	}
	fmt.Println("saw: the first answer:", refusal)
	messages := subscription.Channel(redis.WithChannelHealthCheckInterval(check))
	subscribed := func() bool { return admin.PubSubNumSub(ctx, "news").Val()["news"] == 1 }

	admin.Do(ctx, "ACL", "SETUSER", "reader", "&news")
	another := reader.Subscribe(ctx, "news")
	_, granted := another.Receive(ctx)
	_ = another.Close()
	fmt.Println("saw: another PubSub of the same client is refused now:", granted != nil)
	within(5*time.Second, func() bool { return !subscribed() })
	alone := within(30*check, subscribed)
	fmt.Println("saw: the first one has subscribed after 30 intervals of its check:", alone)

	admin.Do(ctx, "CLIENT", "KILL", "USER", "reader")
	broken := within(10*time.Second, subscribed)
	admin.Publish(ctx, "news", "hello")
	received := false
	select {
	case m := <-messages:
		received = m != nil && m.Payload == "hello"
	case <-time.After(5 * time.Second):
	}
	fmt.Printf("saw: after its connection was cut it has subscribed: %t, and receives: %t\n", broken, received)
	if granted != nil || alone || !broken || !received {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/redis/go-redis/v9@v9.23.0 2>go.log || { echo "go-redis 9.23.0 cannot be downloaded" >&2; exit 2; }

echo "go-redis 9.23.0, Redis $redis"
echo "expected: a PubSub that was refused its channel subscribes soon after the right is granted"
echo "actual:   it does so only when its connection breaks"
go build -o finding . || exit 2
./finding "$temp/redis.sock" 2>client.log
