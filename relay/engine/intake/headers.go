package intake

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// maxHeaders is how many bytes of request headers are stored with an event.
const maxHeaders = 16 << 10

// lowercase has the names that nearly every callback has, so that they need no memory of their own.
var lowercase = func() map[string]string {
	m := map[string]string{}
	for name := range strings.FieldsSeq("Accept Accept-Encoding Connection Content-Length User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto") {
		m[name] = strings.ToLower(name)
	}
	return m
}()

// storedHeaders are the request's headers as they are kept with the event: none that carries a secret, and no more of
// them than maxHeaders.
func storedHeaders(r *http.Request, src *relay.Source) relay.Headers {
	headers := make(relay.Headers, len(r.Header))
	headers["content-type"] = r.Header.Get("Content-Type") // told to every destination, which is told none if this is empty
	room := maxHeaders
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
				if textproto.CanonicalMIMEHeaderKey(secret) == name {
					continue next
				}
			}
		}
		value := strings.Join(values, ", ")
		if room -= len(name) + len(value); room < 0 {
			break
		}
		lower, ok := lowercase[name]
		if !ok {
			lower = strings.ToLower(name)
		}
		headers[lower] = strings.ToValidUTF8(value, "\ufffd")
	}
	if parent := inboundTrace(r.Context()); parent != "" {
		headers["traceparent"] = parent
	}
	return headers
}
