#!/bin/sh
# go-redis 9.23.0 with Redis 7.0.15: a pipeline that was never sent has commands without an error.
#
# Expected: when a pipeline fails because its connection could not be set up, each of its commands has that error, as
#           they do when nobody listens at the address. Code that looks at the commands then knows that nothing ran.
# Actual:   if it is Redis that refuses the new connection (here its password is wrong), Exec returns the refusal, but
#           Err of every command is nil, and its value is a zero that looks like an answer. The refusal has the type
#           of an answer, and so it is treated as if it had been stored in the command it answered.
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
LD_LIBRARY_PATH=$libraries root/usr/bin/redis-server --port 0 --unixsocket "$temp/redis.sock" --requirepass right --save '' >redis.log &
server=$!

cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	client := func(socket, password string) *redis.Client {
		return redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Password: password, MaxRetries: -1, DialerRetries: 1})
	}
	good := client(os.Args[1], "right")
	for deadline := time.Now().Add(10 * time.Second); good.Ping(ctx).Err() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Println("Redis did not start")
			os.Exit(2)
		}
	}
	run := func(what string, p redis.Pipeliner) (exec, command error) {
		counter := p.Incr(ctx, "counter")
		_, exec = p.Exec(ctx)
		fmt.Printf("saw: %s: Exec: %v | INCR: value %d, error %v\n", what, exec, counter.Val(), counter.Err())
		return exec, counter.Err()
	}
	same := true
	exec, command := run("nobody listens", client(os.Args[1]+".none", "").Pipeline())
	same = same && exec != nil && command != nil
	exec, command = run("wrong password, pipeline", client(os.Args[1], "wrong").Pipeline())
	same = same && exec != nil && command == nil
	exec, command = run("wrong password, MULTI", client(os.Args[1], "wrong").TxPipeline())
	same = same && exec != nil && command == nil
	_, err := good.Get(ctx, "counter").Result()
	fmt.Println("saw: the counter was never set:", errors.Is(err, redis.Nil))
	if !same || !errors.Is(err, redis.Nil) {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/redis/go-redis/v9@v9.23.0 2>go.log || { echo "go-redis 9.23.0 cannot be downloaded" >&2; exit 2; }

echo "go-redis 9.23.0, Redis $redis"
echo "expected: the commands of a pipeline whose connection was refused have an error"
echo "actual:   Exec has one, the commands have none"
go build -o finding . || exit 2
./finding "$temp/redis.sock" 2>client.log
