package intake

import (
	"errors"
	"mime"
	"net/http"
	"net/netip"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// maxType is how long a Content-Type may be, in bytes: every destination gets it.
const maxType = 1 << 10

// checkRequest makes the checks that need no body: method, address, type, size.
func checkRequest(r *http.Request, src *relay.Source, client netip.Addr, cb *relay.Callback) *rejection {
	if r.Method != http.MethodPost {
		return &rejection{http.StatusMethodNotAllowed, relay.ResultInvalid, "method_not_allowed", "Callbacks are sent by POST.", nil}
	}
	if !allowed(src, client) {
		return &rejection{http.StatusForbidden, relay.ResultDenied, "address_not_allowed", "This address may not call.", nil}
	}
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return &rejection{http.StatusUnsupportedMediaType, relay.ResultInvalid, "unsupported_encoding", "The body must not be encoded.", nil}
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return &rejection{http.StatusUnsupportedMediaType, relay.ResultInvalid, "unsupported_media_type", "The body must be JSON, with a Content-Type that says so.", nil}
	}
	if r.ContentLength > src.MaxBody {
		return tooLarge(src)
	}
	if r.URL.RawQuery != "" && len(src.Verifiers) > 0 {
		cb.Query = r.URL.Query()
	}
	return nil
}

func allowed(src *relay.Source, client netip.Addr) bool {
	if len(src.Allow) == 0 {
		return true
	}
	client = client.Unmap().WithZone("")
	for _, p := range src.Allow {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

func isJSON(contentType string) bool {
	if len(contentType) > maxType {
		return false
	}
	if contentType == "application/json" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && (mediaType == "application/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json"))
}

// verify asks the verifiers that need the body, or those that do not.
func verify(src *relay.Source, cb *relay.Callback, withBody bool) *rejection {
	for _, v := range src.Verifiers {
		if v.NeedsBody() != withBody {
			continue
		}
		if err := v.Verify(cb); errors.Is(err, relay.ErrUndecided) {
			return unavailable(err)
		} else if err != nil {
			return &rejection{http.StatusUnauthorized, relay.ResultUnverified, "verification_failed", "The callback could not be verified.", err}
		}
	}
	return nil
}
