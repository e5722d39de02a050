#!/bin/sh
# fasthttp 1.78.0: what its HostClient cannot be asked for, so that the gateway has a client of its own.
#
# Expected: an answer is returned once it has come, even if the request has not been read to its end; a repetition can be
#           limited to kept connections; a client without connections does nothing.
# Actual:   HostClient reads nothing before the whole request is written, and times out; the functions that decide on a
#           repetition do not learn whether the connection was a kept one; the goroutine that closes idle connections
#           sleeps on for up to MaxIdleConnDuration, and cannot be stopped. Nor does a request have a context to end it.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"

// listen serves each connection, whose number it is told, by a goroutine.
func listen(serve func(c net.Conn, n int64)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	var conns atomic.Int64
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go serve(c, conns.Add(1))
		}
	}()
	return l.Addr().String()
}

func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	return err == nil && req.Body.Close() == nil
}

func post(c *fasthttp.HostClient, body string) (int, error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	req.SetRequestURI("http://" + c.Addr + "/")
	req.Header.SetMethod("POST")
	req.SetBodyString(body)
	err := c.DoTimeout(req, res, 2*time.Second)
	return res.StatusCode(), err
}

// earlyAnswer answers without reading a large body, and stays connected.
func earlyAnswer() bool {
	address := listen(func(c net.Conn, _ int64) {
		buffer := make([]byte, 1024)
		_, _ = c.Read(buffer)
		_, _ = c.Write([]byte(answer))
		select {}
	})
	status, err := post(&fasthttp.HostClient{Addr: address}, strings.Repeat("x", 32<<20))
	fmt.Printf("saw: an answer before the end of a large body: status %d, error %v\n", status, err)
	return err == nil
}

// repeats returns how often a request came to a server that hangs up on a new connection, without having answered.
func repeats() int64 {
	var requests atomic.Int64
	address := listen(func(c net.Conn, _ int64) {
		if readRequest(bufio.NewReader(c)) {
			requests.Add(1)
		}
		_ = c.Close()
	})
	c := &fasthttp.HostClient{Addr: address, MaxIdemponentCallAttempts: 2, RetryIfErr: func(_ *fasthttp.Request, _ int, err error) (bool, bool) {
		fmt.Printf("saw: RetryIfErr is told %q, and not whether the connection was a kept one\n", err)
		return false, true
	}}
	_, _ = post(c, "{}")
	return requests.Load()
}

// leftGoroutine reports whether something of a client without connections goes on.
func leftGoroutine() bool {
	address := listen(func(c net.Conn, _ int64) {
		for r := bufio.NewReader(c); readRequest(r); {
			_, _ = c.Write([]byte(answer))
		}
	})
	c := &fasthttp.HostClient{Addr: address, MaxIdleConnDuration: time.Minute}
	_, _ = post(c, "{}")
	c.CloseIdleConnections()
	time.Sleep(time.Second)
	stacks := make([]byte, 1<<20)
	left := strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "connsCleaner")
	fmt.Printf("saw: a goroutine is left after CloseIdleConnections: %t\n", left)
	return left
}

func main() {
	fmt.Println("saw:", runtime.Version())
	answered, n, left := earlyAnswer(), repeats(), leftGoroutine()
	fmt.Printf("saw: a request that failed on a new connection was sent %d times\n", n)
	if answered || n != 2 || !left {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS= CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/valyala/fasthttp@v1.78.0 2>>go.log || { cat go.log; exit 2; }

echo "fasthttp 1.78.0, HostClient"
echo "expected: early answers are read, only kept connections are repeated, and nothing goes on without connections"
echo "actual:   none of it can be had"
go build -o finding . || exit 2
./finding
