// Package cause puts into words why a request over HTTP had no response, for errors that are stored, listed and logged.
//
// The errors of net/http quote what a peer sent, and name URLs: neither may be kept, since a URL can carry a secret, and what
// a peer sent can be an echo of one.
package cause

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strings"
	"syscall"
)

// longest bounds a sentence, in bytes.
const longest = 200

// Of returns the innermost cause of an error, without the addresses and operations that it is wrapped in. It holds neither a
// URL nor what a peer sent, and is no longer than 200 bytes.
func Of(err error) string {
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
		return ofCertificate(e.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS"
	}
	if e, ok := errors.AsType[textproto.ProtocolError](err); ok {
		text, _, _ := strings.Cut(string(e), ":") // after it comes what was received
		return bounded(text)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "the connection was closed"
	}
	if IsStreamReset(err) {
		_, code, _ := strings.Cut(err.Error(), "; ")
		code, _, _ = strings.Cut(code, ";")
		return bounded("the stream was reset: " + code)
	}
	return plain(err)
}

func ofCertificate(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an unknown authority"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is not valid for " + e.Host
	}
	return bounded("the certificate is not valid: " + unquoted(strings.TrimPrefix(err.Error(), "x509: ")))
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
	text, _, _ = strings.Cut(unquoted(text), ";")
	return cmp.Or(bounded(text), "the request failed")
}

// unquoted returns a text up to what it quotes, which came from outside.
func unquoted(text string) string {
	text, _, _ = strings.Cut(text, `"`)
	return text
}

func bounded(text string) string {
	return strings.ToValidUTF8(strings.TrimRight(text[:min(len(text), longest)], " :"), "")
}

// streamError has the fields of HTTP/2's stream error, by which net/http lets itself be asked for it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "stream reset" }

// IsStreamReset reports whether an error is that of one stream of an HTTP/2 connection.
func IsStreamReset(err error) bool {
	_, ok := errors.AsType[streamError](err)
	return ok
}
