#!/bin/sh
# go-redis 9.23.0 with Redis 7.0.15: that Redis has no connection to spare is not what the error says.
#
# Expected: Redis answers a connection beyond maxclients with a sentence, and hangs up. The client's error has it.
# Actual:   the sentence arrives as the answer to HELLO. go-redis takes it for that of a server too old to know HELLO,
#           goes on with the setup by older commands on the connection that is closed, and returns how that failed:
#           a broken pipe or the like. Whoever reads the log suspects the network.
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
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	first := redis.NewClient(&redis.Options{Network: "unix", Addr: os.Args[1], PoolSize: 1})
	for deadline := time.Now().Add(10 * time.Second); first.ConfigSet(ctx, "maxclients", "1").Err() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Println("Redis did not start")
			os.Exit(2)
		}
	}
	const reason = "max number of clients"

	told := ""
	if c, err := net.Dial("unix", os.Args[1]); err == nil {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		answer, _ := io.ReadAll(c)
		told = strings.TrimSpace(string(answer))
	}
	fmt.Println("saw: what Redis sends:", told)
	same := strings.Contains(told, reason)
	for _, protocol := range []int{2, 3} {
		second := redis.NewClient(&redis.Options{Network: "unix", Addr: os.Args[1], Protocol: protocol})
		err := second.Ping(ctx).Err()
		fmt.Printf("saw: what go-redis returns with RESP%d: %v\n", protocol, err)
		same = same && err != nil && !strings.Contains(err.Error(), reason)
	}
	if err := first.Ping(ctx).Err(); err != nil || !same {
		fmt.Println("CHANGED: this is not what was found", err)
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/redis/go-redis/v9@v9.23.0 2>go.log || { echo "go-redis 9.23.0 cannot be downloaded" >&2; exit 2; }

echo "go-redis 9.23.0, Redis $redis"
echo "expected: the error says that the maximum of clients is reached"
echo "actual:   it is one of a closed connection"
go build -o finding . || exit 2
./finding "$temp/redis.sock" 2>client.log
