package caddymodule

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// dashboardLink is the URL of a dashboard, which alerts link to. The configuration does not say it: a prefix may be stripped
// by any handler, and a proxy may stand before the site. So it is noted where somebody opens the dashboard.
type dashboardLink struct {
	url atomic.Pointer[string]
}

// link returns the URL, with its last slash; empty while nobody has opened the dashboard.
func (l *dashboardLink) link() string {
	if u := l.url.Load(); u != nil {
		return *u
	}
	return ""
}

// note notes where a request for the dashboard's first page came to, unless anybody may have sent it: the host would be one
// of their choice.
func (l *dashboardLink) note(r *http.Request) {
	if r.URL.Path != "/" || !mayWrite(r) || strings.ContainsAny(r.Host, "/\\@?# ") {
		return
	}
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u := scheme + "://" + r.Host + original.URL.EscapedPath()
	l.url.Store(&u)
}
