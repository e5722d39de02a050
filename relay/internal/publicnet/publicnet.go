// Package publicnet keeps requests to URLs that others name off the operator's own networks.
//
// A name can resolve to any address, and to another one a moment later. So the address is checked when it is dialled,
// after DNS, and not when the URL is read.
package publicnet

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// AddressError is why an address was not dialled.
type AddressError struct{ Addr netip.Addr }

// Error names the address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s is not a public address", e.Addr)
}

// NewDialer returns a dialer of TCP to public addresses, and to those that one of the allowed prefixes contains. Where a
// name has several addresses, those that are refused are passed over. An error wraps *AddressError.
func NewDialer(allowed ...netip.Prefix) *net.Dialer {
	return &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(network, address string, _ syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return fmt.Errorf("%s is not TCP", network)
			}
			dialled, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			addr := dialled.Addr().WithZone("")
			if !IsPublic(addr) && !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) }) {
				return &AddressError{addr}
			}
			return nil
		},
	}
}

// NewTransport returns a transport over NewDialer. It ignores the proxy variables of the environment, since a proxy would
// resolve names itself and dial what it likes, and keeps no connection, so that nothing of it is left to be closed.
func NewTransport(allowed ...netip.Prefix) *http.Transport {
	return &http.Transport{
		DialContext:            NewDialer(allowed...).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true,
	}
}

// IsPublic reports whether a is an address that the public internet routes to one host: none of the blocks that IANA's
// special-purpose address registries (RFC 6890) set aside, no multicast, and no IPv6 address that holds an IPv4 address,
// since a translator or a tunnel would send that one on to any network.
func IsPublic(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return false // loopback, ::ffff:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48, fc00::/7, fe80::/10, ff00::/8 and the rest
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// globalUnicast is the one block of IPv6 that IANA hands out.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// special are the blocks set aside in all of IPv4, and in globalUnicast.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("10.0.0.0/8"),      // private
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local, and the metadata service of clouds
	netip.MustParsePrefix("172.16.0.0/12"),   // private
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),  // private
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("224.0.0.0/4"),     // multicast
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("2001::/23"),       // protocol assignments: Teredo, benchmarking, ORCHID
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4
	netip.MustParsePrefix("3fff::/20"),       // documentation
}
