#!/bin/sh
# net/http of Go 1.26.8: a request that may be repeated is not, if its body is large and the kept connection is closed.
#
# Expected: a POST whose body can be rewound (GetBody), and which is marked as idempotent by X-Idempotency-Key without a
#           value, is sent again on a new connection when the server has closed the kept one without an answer.
# Actual:   that is so while the body fits into the buffers of the connection. If the server hangs up while the body is
#           still being written, the request fails with an error of writing, although nothing was answered either.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
)

// serve answers the first request of a connection, and resets it at the second: after a small body, within a large one.
func serve(c net.Conn) {
	r := bufio.NewReader(c)
	if first, err := http.ReadRequest(r); err == nil {
		_, _ = io.Copy(io.Discard, first.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	if second, err := http.ReadRequest(r); err == nil && second.ContentLength < 1000 {
		_, _ = io.Copy(io.Discard, second.Body)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

const requests = 20

// failures returns how many of the requests with a body of so many bytes fail.
func failures(address string, size int) (failed int) {
	client := &http.Client{Transport: new(http.Transport)}
	last := error(nil)
	for range requests {
		req, _ := http.NewRequest(http.MethodPost, "http://"+address, strings.NewReader(strings.Repeat("x", size)))
		req.Header["X-Idempotency-Key"] = nil
		res, err := client.Do(req)
		if err != nil {
			failed++
			last = err
			continue
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	fmt.Printf("saw: %d of %d requests of %d bytes fail", failed, requests, size)
	if last != nil {
		fmt.Printf(", the last one by: %s", last.Error()[strings.LastIndex(last.Error(), ": ")+2:])
	}
	fmt.Println()
	return failed
}

func main() {
	fmt.Println("saw:", runtime.Version())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go serve(c)
		}
	}()
	small, large := failures(l.Addr().String(), 2), failures(l.Addr().String(), 8<<20)
	if small != 0 || large == 0 {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS= CGO_ENABLED=0
go mod init finding 2>go.log

echo "net/http of Go 1.26.8"
echo "expected: requests on kept connections that are closed are repeated, whatever the size of their bodies"
echo "actual:   those with large bodies fail"
go build -o finding . || exit 2
./finding
