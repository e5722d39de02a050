package courier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// heads are buffers for requests.
var heads = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 2<<10)) }}

// message is a request as Lean sends it. Its buffer is one of heads, to be put back once nothing is sent any more.
type message struct {
	ctx  context.Context
	head *bytes.Buffer // up to the body, or with it, where that is to be written at once
	body []byte        // unless it is in the head
	err  error         // why it cannot be sent
}

// message returns a request without headers of its own. An empty host is that of the client.
func (c *Lean) message(ctx context.Context, method, target, host string, body []byte) *message {
	m := &message{ctx: ctx, head: heads.Get().(*bytes.Buffer), body: body}
	if host == "" || host == c.target {
		host = c.host
	} else if ascii, err := httpguts.PunycodeHostPort(host); err == nil && httpguts.ValidHostHeader(ascii) {
		host = withoutZone(ascii)
	} else {
		m.err = errors.New("invalid Host header")
	}
	b := m.head
	b.Reset()
	b.WriteString(method)
	b.WriteByte(' ')
	b.WriteString(target)
	b.WriteString(" HTTP/1.1\r\nHost: ")
	b.WriteString(host)
	b.WriteString("\r\nContent-Length: ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), int64(len(body)), 10))
	b.WriteString("\r\n")
	return m
}

// set adds a header.
func (m *message) set(name, value string) {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		m.err = fmt.Errorf("invalid header field name %q", name)
	case !httpguts.ValidHeaderFieldValue(value):
		m.err = fmt.Errorf("invalid header field value for %q", name)
	case name == "User-Agent" && value == "": // net/http sends none, either
	default:
		m.head.WriteString(name)
		m.head.WriteString(": ")
		m.head.WriteString(strings.Trim(value, " \t"))
		m.head.WriteString("\r\n")
	}
}

// complete ends the headers.
func (m *message) complete() {
	m.head.WriteString("\r\n")
	if m.head.Len()+len(m.body) <= writtenAtOnce {
		m.head.Write(m.body)
		m.body = nil
	}
}

// messageOf returns a request of net/http, with its whole body, which it closes.
func (c *Lean) messageOf(r *http.Request) (*message, error) {
	var body []byte
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	m := c.message(r.Context(), r.Method, r.URL.RequestURI(), r.Host, body)
	for name, values := range r.Header {
		for _, value := range values {
			m.set(name, value)
		}
	}
	return m, nil
}
