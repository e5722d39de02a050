package intake

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// maxHeaders is how many bytes of request headers are stored with an event: more than Caddy lets in by default. Its
// max_header_size may let in more.
const maxHeaders = 32 << 10

// lowercase has the names that nearly every callback has, so that they need no memory of their own.
var lowercase = func() map[string]string {
	m := map[string]string{}
	for name := range strings.FieldsSeq("Accept Accept-Encoding Connection Content-Length User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto") {
		m[name] = strings.ToLower(name)
	}
	return m
}()

// storedHeaders are the request's headers as they are kept with the event, and filters see them: none that carries a secret,
// and no more of them than maxHeaders.
func storedHeaders(r *http.Request, src *relay.Source) relay.Headers {
	headers := make(relay.Headers, len(r.Header))
	headers["content-type"] = r.Header.Get("Content-Type") // told to every destination, which is told none if this is empty
	size := 0
next:
	for name, values := range r.Header {
		switch name {
		case "Authorization", "Proxy-Authorization", "Cookie":
			continue
		case "Content-Type", "Relay-Proof", "Relay-Conflict-With": // what the gateway notes there itself
			continue
		}
		for _, v := range src.Verifiers {
			for _, secret := range v.Headers() {
				if strings.EqualFold(secret, name) {
					continue next
				}
			}
		}
		value := strings.Join(values, ", ")
		size += len(name) + len(value)
		lower, ok := lowercase[name]
		if !ok {
			lower = strings.ToLower(name)
		}
		headers[lower] = strings.ToValidUTF8(value, "\ufffd")
	}
	if size > maxHeaders {
		cutHeaders(headers)
	}
	if parent := inboundTrace(r.Context()); parent != "" {
		headers["traceparent"] = parent
	}
	return headers
}

// cutHeaders removes what is too much, the same headers of the same request each time, since a filter may ask for them.
func cutHeaders(headers relay.Headers) {
	room := maxHeaders
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if size := len(name) + len(headers[name]); size <= room {
			room -= size
		} else if name != "content-type" {
			delete(headers, name)
		}
	}
}
