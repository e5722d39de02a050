package archive

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// DefaultHosts are the hosts that the family of suno and kie keeps its files on.
var DefaultHosts = []string{
	"tempfile.aiquickdraw.com", "file.aiquickdraw.com", "cdn1.suno.ai", "cdn2.suno.ai", "musicfile.api.box",
	"apiboxfiles.erweima.ai", "mfile.erweima.ai", "tempfile.redpandaai.co",
}

// Hosts are the hosts that files may be fetched from. The zero value allows none.
type Hosts struct {
	names    []string // in lower case
	domains  []string // with a dot before each: all below it
	prefixes []netip.Prefix
}

// ParseHosts reads a list of host names, *.domain (every name below the domain), IP addresses and CIDR ranges. Addresses
// that are not public are dialled only if the list has them as addresses, whatever name leads to them.
func ParseHosts(list []string) (h Hosts, err error) {
	for _, s := range list {
		if p, ok := parseAddress(s); ok {
			h.prefixes = append(h.prefixes, p)
			continue
		}
		name, below := strings.CutPrefix(s, "*.")
		name, ok := hostName(name)
		switch {
		case !ok:
			return Hosts{}, fmt.Errorf("expected a host, *.domain, an IP address or a CIDR range, got %q", s)
		case below:
			h.domains = append(h.domains, "."+name)
		default:
			h.names = append(h.names, name)
		}
	}
	return h, nil
}

// parseAddress reads an IP address or a CIDR range.
func parseAddress(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// hostName returns a name as it is looked up: in lower case, in ASCII, and without the dot at its end.
func hostName(s string) (name string, ok bool) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
	if err != nil || name == "" || strings.ContainsAny(name, ":/*@ %") {
		return "", false
	}
	return strings.ToLower(name), true
}

// allow reports whether files may be fetched from a URL's host.
func (h Hosts) allow(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == "" && slices.ContainsFunc(h.prefixes, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
	}
	name, ok := hostName(host)
	return ok && (slices.Contains(h.names, name) ||
		slices.ContainsFunc(h.domains, func(d string) bool { return strings.HasSuffix(name, d) }))
}
