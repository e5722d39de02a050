#!/bin/sh
# net/http of Go 1.26.8 with golang.org/x/net/http2 0.60.0: a clone of a transport uses the original's connections.
#
# Expected: Transport.Clone returns a transport with a pool of its own, as it does for HTTP/1.1, and for HTTP/2 where
#           net/http has set that up itself. A clone with another dialer sends its requests over what that dialer opens.
# Actual:   after http2.ConfigureTransport, the clone shares the function that receives new HTTP/2 connections. The
#           clone dials, shakes hands, and then its connection is dropped for the one that the original has already:
#           its requests go there. Closing the idle connections of the clone does not close that one either.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"

	"golang.org/x/net/http2"
)

// remote returns the address from which the server saw a request come.
func remote(t *http.Transport, url string) string {
	res, err := (&http.Client{Transport: t}).Get(url)
	if err != nil {
		fmt.Println("the request failed:", err)
		os.Exit(2)
	}
	defer res.Body.Close()
	address, _ := io.ReadAll(res.Body)
	return string(address)
}

// shared reports whether the requests of a clone come from the connection of the original, and whether that one
// outlives the idle connections of the clone.
func shared(server *httptest.Server, configure func(*http.Transport) error) (one, outlives bool) {
	original := &http.Transport{TLSClientConfig: server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	if err := configure(original); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	before := remote(original, server.URL)
	clone := original.Clone()
	dialled := ""
	clone.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			dialled = c.LocalAddr().String()
		}
		return c, err
	}
	got := remote(clone, server.URL)
	clone.CloseIdleConnections()
	fmt.Printf("saw: the clone has dialled: %t; its request came over that connection: %t, over the original's: %t\n",
		dialled != "", got == dialled, got == before)
	return dialled != "" && got == before, remote(original, server.URL) == before
}

func main() {
	fmt.Println("saw:", runtime.Version())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	fmt.Println("HTTP/2 by ForceAttemptHTTP2:")
	own, _ := shared(server, func(t *http.Transport) error { t.ForceAttemptHTTP2 = true; return nil })
	fmt.Println("HTTP/2 by http2.ConfigureTransport:")
	configured, outlives := shared(server, http2.ConfigureTransport)
	if own || !configured || !outlives {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get golang.org/x/net@v0.60.0 2>go.log || { echo "golang.org/x/net 0.60.0 cannot be downloaded" >&2; exit 2; }

echo "net/http of Go 1.26.8, golang.org/x/net 0.60.0"
echo "expected: a clone of a transport sends requests over connections of its own"
echo "actual:   after http2.ConfigureTransport over those of the original"
go build -o finding . || exit 2
./finding
