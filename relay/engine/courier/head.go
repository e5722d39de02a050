package courier

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// heads are buffers for requests.
var heads = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 2<<10)) }}

// head returns a request up to its body, in a buffer of heads.
func (c *Lean) head(r *http.Request) (*bytes.Buffer, error) {
	host := c.host
	if r.Host != "" && r.Host != host {
		ascii, err := httpguts.PunycodeHostPort(r.Host)
		if err != nil || !httpguts.ValidHostHeader(ascii) {
			return nil, fmt.Errorf("invalid Host header")
		}
		host = withoutZone(ascii)
	}
	b := heads.Get().(*bytes.Buffer)
	b.Reset()
	b.WriteString(r.Method)
	b.WriteByte(' ')
	b.WriteString(r.URL.RequestURI())
	b.WriteString(" HTTP/1.1\r\nHost: ")
	b.WriteString(host)
	b.WriteString("\r\nContent-Length: ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), r.ContentLength, 10))
	b.WriteString("\r\n")
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue // net/http sends none of them, either
		}
		if !httpguts.ValidHeaderFieldName(name) {
			heads.Put(b)
			return nil, fmt.Errorf("invalid header field name %q", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				heads.Put(b)
				return nil, fmt.Errorf("invalid header field value for %q", name)
			}
			b.WriteString(name)
			b.WriteString(": ")
			b.WriteString(strings.Trim(value, " \t"))
			b.WriteString("\r\n")
		}
	}
	b.WriteString("\r\n")
	return b, nil
}
