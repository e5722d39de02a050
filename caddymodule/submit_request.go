package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// maxSubmission is how large the body of a submission may be, in bytes.
const maxSubmission = 1 << 20

// submits reports whether a request may submit a task: whether it is a POST in which a provider may read JSON.
func submits(r *http.Request) bool {
	return r.Method == http.MethodPost && slices.ContainsFunc(r.Header["Content-Type"], mayBeJSON)
}

// mayBeJSON reports whether somebody may read JSON in a Content-Type: one of several, or beside what belongs to none, which
// readers take differently.
func mayBeJSON(contentType string) bool {
	for one := range strings.SplitSeq(contentType, ",") {
		one, _, _ = strings.Cut(one, ";")
		if words := strings.Fields(one); len(words) > 0 && (payload.IsJSON(words[0]) || strings.EqualFold(words[0], "text/json")) {
			return true
		}
	}
	return false
}

// rewrite puts the callback URL into the request, and asks for an answer that can be read.
func (s *Submit) rewrite(w http.ResponseWriter, r *http.Request, api string) *apiError {
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return &apiError{http.StatusUnsupportedMediaType, "unsupported_encoding", "The body must not be encoded."}
	}
	if r.ContentLength > maxSubmission {
		return tooLarge(r)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSubmission))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(r)
	}
	if err != nil {
		return &apiError{http.StatusBadRequest, "body_unreadable", "The body could not be read to its end."}
	}
	name, replaced := "callBackUrl", []string{"callBackUrl"}
	if strings.HasSuffix(api, "voice/regenerate") { // spells it so
		name, replaced = "calBackUrl", append(replaced, "calBackUrl")
	}
	if body, err = payload.SetMember(body, name, s.callback, replaced...); err != nil {
		return &apiError{http.StatusBadRequest, "invalid_body", relay.Sentence(err)}
	}
	// With GetBody, a request that meets a connection just closed is sent again.
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.Header.Set("Accept-Encoding", "identity")
	return nil
}

// tooLarge reads on for a while, since an application that is still writing might not see the answer.
func tooLarge(r *http.Request) *apiError {
	_, _ = io.CopyN(io.Discard, r.Body, maxSubmission)
	return &apiError{
		http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("The body is larger than %d bytes.", maxSubmission),
	}
}

// apiPath matches an API in the path of a submission, whatever comes before it.
var apiPath = regexp.MustCompile(`(?:^|/)(api/v[0-9]+/.*[^/])`)

// submittedTo returns the API that a request submits a task to, as relay.DetailsReader knows it. A matcher or a rewrite may
// have cut it from the path: then the path as the request came counts.
func submittedTo(r *http.Request) string {
	paths := []string{r.URL.Path}
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		paths = append(paths, original.URL.Path)
	}
	for _, path := range paths {
		if match := apiPath.FindStringSubmatch(path); match != nil {
			return match[1]
		}
	}
	return strings.Trim(r.URL.Path, "/")
}
