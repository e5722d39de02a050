package cause_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
	"github.com/callbackrelay/caddy-relay/relay/internal/publicnet"
)

func TestOf(t *testing.T) {
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	op := func(name string, err error) error {
		return &net.OpError{Op: name, Net: "tcp", Source: address, Addr: address, Err: err}
	}
	for want, err := range map[string]error{
		"connection reset by peer":                       fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", op("write", op("read", os.NewSyscallError("read", syscall.ECONNRESET)))),
		"broken pipe":                                    op("write", syscall.EPIPE),
		"no route to host":                               op("dial", os.NewSyscallError("connect", syscall.EHOSTUNREACH)),
		"timeout":                                        op("dial", os.ErrDeadlineExceeded),
		"unknown error host unreachable":                 op("socks connect", op("socks connect", errors.New("unknown error host unreachable"))),
		"looking up billing.example: no such host":       op("dial", &net.DNSError{Err: "no such host", Name: "billing.example", Server: "10.0.0.2:53", IsNotFound: true}),
		"looking up billing.example: timeout":            op("dial", &net.DNSError{Err: "i/o timeout", Name: "billing.example", Server: "10.0.0.2:53", IsTimeout: true}),
		"looking up billing.example: connection refused": op("dial", &net.DNSError{Err: "read udp 10.0.0.1:1->10.0.0.2:53: read: connection refused", Name: "billing.example"}),
		"the connection was closed":                      &url.Error{Op: "Post", URL: "https://billing.example/?token=s3cret", Err: io.ErrUnexpectedEOF},
		"server sent GOAWAY and closed the connection":   errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug="x"`),
		"unsupported protocol scheme":                    &url.Error{Op: "Post", URL: "https://billing.example/?token=s3cret", Err: errors.New(`unsupported protocol scheme "x"`)},
		"failed to parse Location header":                &url.Error{Op: "Get", URL: "https://billing.example/?token=s3cret", Err: errors.New(`failed to parse Location header "https://x/?s3cret": parse "https://x/?s3cret": net/url: invalid control character in URL`)},
		"malformed MIME header line":                     fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", textproto.ProtocolError("malformed MIME header line: s3cret")),
		"malformed HTTP response":                        errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "s3cret"`),
		"10.0.0.1 is not a public address":               op("dial", &publicnet.AddressError{Addr: netip.MustParseAddr("10.0.0.1")}),
		"the certificate is not valid: a root or intermediate certificate is not authorized to sign for this name: DNS name": &tls.CertificateVerificationError{Err: errors.New(`x509: a root or intermediate certificate is not authorized to sign for this name: DNS name "s3cret" is not permitted`)},
		"the request failed":     errors.New(`"s3cret" is not understood`),
		strings.Repeat("a", 200): errors.New(strings.Repeat("a", 300)),
	} {
		if got := cause.Of(err); got != want {
			t.Errorf("%q is %q, want %q", err, got, want)
		}
	}
}
