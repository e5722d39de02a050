package intake

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// maxType is how long a Content-Type may be, in bytes: every destination gets it.
const maxType = 1 << 10

// checkRequest makes the checks that need no body: method, address, type, size.
func (in *Intake) checkRequest(r *http.Request, src *relay.Source, client netip.Addr, cb *relay.Callback) *rejection {
	if r.Method != http.MethodPost {
		return &rejection{http.StatusMethodNotAllowed, relay.ResultInvalid, "method_not_allowed", "Callbacks are sent by POST.", nil}
	}
	if src.Restricted() && !allowed(r, src, client) {
		if !src.Observe {
			return &rejection{http.StatusForbidden, relay.ResultDenied, "address_not_allowed", "This address may not call.", nil}
		}
		in.params.Meter.Source(src.Name).Count(relay.ResultDeniedObserved)
		in.params.Report.Logger(src.Logger).Warn("callback from an address that is not allowed: it is let in, since allow_mode is observe",
			"source", src.Name, "result", relay.ResultDeniedObserved, "remote_addr", r.RemoteAddr, "client_ip", client.String())
	}
	if rej := checkContent(src, r.Header, r.ContentLength); rej != nil {
		return rej
	}
	if r.URL.RawQuery != "" && len(src.Verifiers) > 0 {
		cb.Query = r.URL.Query()
	}
	return nil
}

// checkContent checks what the headers of a body and its length, in bytes, tell of it.
func checkContent(src *relay.Source, header http.Header, length int64) *rejection {
	if _, encoded := header["Content-Encoding"]; encoded {
		return &rejection{http.StatusUnsupportedMediaType, relay.ResultInvalid, "unsupported_encoding", "The body must not be encoded.", nil}
	}
	if message := checkType(src.Body, header.Get("Content-Type")); message != "" {
		return &rejection{http.StatusUnsupportedMediaType, relay.ResultInvalid, "unsupported_media_type", message, nil}
	}
	if length > src.MaxBody {
		return tooLarge(src)
	}
	return nil
}

// allowed reports whether the source lists the client's address.
func allowed(r *http.Request, src *relay.Source, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	contains := func(p netip.Prefix) bool { return p.Contains(client) }
	if slices.ContainsFunc(src.Allow, contains) {
		return true
	}
	for _, list := range src.AllowFrom {
		if slices.ContainsFunc(list.GetIPRanges(r), contains) {
			return true
		}
	}
	return false
}

// checkType returns what is wrong with a Content-Type, for the sender; nothing if it is as the format expects.
func checkType(format payload.Format, contentType string) string {
	if len(contentType) > maxType {
		return fmt.Sprintf("The Content-Type is longer than %d bytes.", maxType)
	}
	switch format {
	case payload.Any:
	case payload.Form:
		if payload.MediaType(contentType) != "application/x-www-form-urlencoded" {
			return "The body must be a form, with the Content-Type application/x-www-form-urlencoded."
		}
	default:
		if !payload.IsJSON(contentType) {
			return "The body must be JSON, with a Content-Type that says so."
		}
	}
	return ""
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
