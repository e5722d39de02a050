package courier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// The phases of a request, as errors name them.
const (
	connecting = "connecting"
	sending    = "sending the request"
	waiting    = "waiting for the response"
)

// failure is why there was no response.
type failure struct {
	proxy string // host and port of the proxy that the request went through; empty without one
	phase string
	err   error
}

func (f *failure) Error() string {
	text := f.phase + ": " + reason(f.err)
	if r, ok := errors.AsType[refusal](f.err); ok {
		text = r.Error()
	}
	if f.proxy != "" {
		return "through the proxy " + f.proxy + ": " + text
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// refusal is the status by which a proxy refused a request.
type refusal int

func (r refusal) Error() string {
	return strings.TrimSpace("refused with " + strconv.Itoa(int(r)) + " " + http.StatusText(int(r)))
}

// timedOut returns err with the timeout as its reason: what a transport returns after one depends on where it was.
func timedOut(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{f.proxy, f.phase, context.DeadlineExceeded}
	}
	return context.DeadlineExceeded
}

// sentence returns what an operator reads about an attempt without a response. It holds neither a URL, which may carry a
// secret, nor anything that the destination sent, which may be an echo of one.
func sentence(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.Error()
	}
	return reason(err)
}

// reason returns the innermost cause, without the addresses and operations that it is wrapped in.
func reason(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsTimeout {
			return "looking up " + e.Name + ": timeout"
		}
		cause := e.Err[strings.LastIndex(e.Err, ":")+1:] // before it come addresses of resolvers
		return "looking up " + e.Name + ": " + strings.TrimSpace(cause)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateReason(e.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS"
	}
	if e, ok := errors.AsType[textproto.ProtocolError](err); ok {
		text, _, _ := strings.Cut(string(e), ":") // after it comes what was received
		return text
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "the connection was closed"
	}
	if isStreamReset(err) {
		_, code, _ := strings.Cut(err.Error(), "; ")
		code, _, _ = strings.Cut(code, ";")
		return "the stream was reset: " + code
	}
	return plain(err)
}

func certificateReason(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an unknown authority"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is not valid for " + e.Host
	}
	return "the certificate is not valid: " + strings.TrimPrefix(err.Error(), "x509: ")
}

// plain returns the text of an error of net/http or crypto/tls without what only a Go programmer wants to read.
func plain(err error) string {
	for {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e.Err
		} else if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		} else {
			break
		}
	}
	text := err.Error()
	for _, prefix := range []string{"net/http: ", "HTTP/1.x transport connection broken: ", "net/http: ", "http: ", "http2: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	text, _, _ = strings.Cut(text, `"`) // what is quoted came from outside
	text, _, _ = strings.Cut(text, ";")
	const longest = 200
	if len(text) > longest {
		text = text[:longest]
	}
	return strings.ToValidUTF8(strings.TrimRight(text, " :"), "")
}

// streamError has the fields of HTTP/2's stream error, by which net/http lets itself be asked for it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "stream reset" }

func isStreamReset(err error) bool {
	_, ok := errors.AsType[streamError](err)
	return ok
}
