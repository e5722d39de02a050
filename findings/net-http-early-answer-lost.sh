#!/bin/sh
# net/http of Go 1.26.8: an answer that has arrived is lost when the server hangs up within a large request body.
#
# Expected: a server may answer before it has read the whole body, and close. The answer is in the client's receive
#           buffer, and a client that just reads after its write has failed gets all of it: as one does here by hand.
# Actual:   http.Transport closes the connection as soon as a write fails. Whether it returns the answer or the error
#           of writing is a race of its two goroutines: many of the requests fail, though each was answered with 202.
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

const requests = 60

var body = strings.Repeat("x", 8<<20)

// byHand sends a request as plain bytes, and reports whether it read the answer after a write had failed.
func byHand(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body)
	if err == nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	answer, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusAccepted && string(answer) == "ok"
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
			go func() {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
				_ = c.Close()
			}()
		}
	}()
	address, read, lost := l.Addr().String(), 0, 0
	for range requests {
		if byHand(address) {
			read++
		}
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Post("http://"+address, "text/plain", strings.NewReader(body))
		if err != nil {
			lost++
			continue
		}
		_ = res.Body.Close()
	}
	fmt.Printf("saw: of %d answers each, %d were read by hand, and %d were lost by net/http\n", requests, read, lost)
	if read != requests || lost == 0 {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS= CGO_ENABLED=0
go mod init finding 2>go.log

echo "net/http of Go 1.26.8"
echo "expected: the answer that a server has sent is returned, even if the request could not be sent to the end"
echo "actual:   it is lost for some of the requests"
go build -o finding . || exit 2
./finding
