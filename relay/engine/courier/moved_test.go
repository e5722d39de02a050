package courier

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/internal/dnstest"
)

// TestMovesByDNS has a consumer's name lead to another address, while the old one goes on answering: an attempt a minute
// reaches the new one once the connection is five minutes old, and at once where the old one has closed it.
func TestMovesByDNS(t *testing.T) { forClients(t, testMovesByDNS) }

func testMovesByDNS(t *testing.T, k client) {
	for name, test := range map[string]struct {
		http2, closes bool
		want          int // the first attempt that reaches the new address
	}{
		"HTTP/1.1, the old address goes on": {want: 5},
		"HTTP/1.1, the old address closes":  {closes: true, want: 2},
		"HTTP/2, the old address goes on":   {http2: true, want: 5},
		"HTTP/2, the old address closes":    {http2: true, closes: true, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			if test.http2 && k == lean {
				t.Skip("it speaks HTTP/1.1")
			}
			names, err := dnstest.Start()
			if err != nil {
				t.Fatal(err)
			}
			defer names.Close()
			var reached atomic.Int64
			var servers [2]*httptest.Server
			port := 0
			for n := range servers {
				address := netip.AddrFrom4([4]byte{127, 0, 0, byte(n + 1)})
				listener, err := net.Listen("tcp4", netip.AddrPortFrom(address, uint16(port)).String())
				if err != nil {
					t.Fatal(err)
				}
				port = listener.Addr().(*net.TCPAddr).Port
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(int64(n)) }))
				_ = s.Listener.Close()
				s.Listener, s.EnableHTTP2 = listener, test.http2
				servers[n] = s
			}
			scheme := "http"
			for _, s := range servers {
				if test.http2 {
					scheme = "https"
					s.StartTLS()
				} else {
					s.Start()
				}
				defer s.Close()
			}
			const host = "consumer.example.test"
			names.Set(host, netip.MustParseAddr("127.0.0.1"))
			dst := k.over(t, scheme+"://"+host+":"+strconv.Itoa(port), &http.Transport{
				DialContext: (&net.Dialer{Resolver: names.Resolver()}).DialContext, MaxIdleConnsPerHost: 16, DisableCompression: true,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: test.http2,
			}, time.Hour)
			start := time.Now()
			var minutes atomic.Int64
			setClock(dst.Transport, func() time.Time { return start.Add(time.Duration(minutes.Load()) * time.Minute) })
			first := 0
			for n := range 8 {
				wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
				if reached.Load() == 1 && first == 0 {
					first = n
				}
				if n == 1 {
					names.Set(host, netip.MustParseAddr("127.0.0.2"))
					if test.closes {
						servers[0].CloseClientConnections()
					}
				}
				minutes.Add(1)
			}
			if first != test.want || reached.Load() != 1 {
				t.Errorf("attempt %d was the first to reach the new address, and the last reached server %d", first, reached.Load())
			}
		})
	}
}
