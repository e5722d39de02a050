package publicnet_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay/internal/publicnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIsPublic(t *testing.T) {
	for addr, public := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "9.255.255.255": true, "11.0.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"126.255.255.255": true, "128.0.0.1": true, "169.253.255.255": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.0.1.0": true, "192.167.255.255": true, "198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.0": false, "100.127.255.255": false,
		"127.0.0.1": false, "127.255.255.255": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false, "198.18.0.1": false,
		"198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false,
		"240.0.0.1": false, "255.255.255.255": false,

		"2606:4700:4700::1111": true, "2001:4860:4860::8888": true, "2001:200::1": true, "2a00::1": true, "2003::1": true,

		"::": false, "::1": false, "::8.8.8.8": false, "::ffff:8.8.8.8": false, "::ffff:127.0.0.1": false,
		"::ffff:0:8.8.8.8": false, "64:ff9b::8.8.8.8": false, "64:ff9b:1::1": false, "100::1": false,
		"2001::1": false, "2001:2::1": false, "2001:10::1": false, "2001:20::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false, "3fff::1": false, "4000::1": false, "5f00::1": false, "fc00::1": false, "fd12::1": false,
		"fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "2606:4700::1%eth0": false,
	} {
		if got := publicnet.IsPublic(netip.MustParseAddr(addr)); got != public {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if publicnet.IsPublic(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// TestDialer dials a server on loopback by its address, by a name, and mapped into IPv6.
func TestDialer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for _, c := range []struct {
		host    string
		allowed []netip.Prefix
		ok      bool
	}{
		{"127.0.0.1", nil, false},
		{"::ffff:127.0.0.1", nil, false},
		{"localhost", nil, false},
		{"127.0.0.1", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, false},
		{"127.0.0.1", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), loopback}, true},
		{"::ffff:127.0.0.1", []netip.Prefix{loopback}, true},
		{"localhost", []netip.Prefix{loopback}, true},
	} {
		conn, err := publicnet.NewDialer(c.allowed...).DialContext(t.Context(), "tcp", net.JoinHostPort(c.host, port))
		if err == nil {
			_ = conn.Close()
		}
		if _, refused := errors.AsType[*publicnet.AddressError](err); refused == c.ok || (err == nil) != c.ok {
			t.Errorf("%s, %v allowed: %v", c.host, c.allowed, err)
		}
	}
	if _, err := publicnet.NewDialer(loopback).DialContext(t.Context(), "udp", server.Listener.Addr().String()); err == nil {
		t.Error("UDP was dialled")
	}
}

// TestTransport: a proxy of the environment would dial for us.
func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("NO_PROXY", "")
	for _, allowed := range [][]netip.Prefix{nil, {netip.MustParsePrefix("127.0.0.0/8")}} {
		client := http.Client{Transport: publicnet.NewTransport(allowed...)}
		res, err := client.Get(server.URL)
		if err == nil {
			_ = res.Body.Close()
		}
		if _, refused := errors.AsType[*publicnet.AddressError](err); refused != (allowed == nil) || (err == nil) != (allowed != nil) {
			t.Errorf("%v allowed: %v", allowed, err)
		}
	}
	if publicnet.NewTransport().Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}
