package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/publicnet"
)

const (
	maxRedirects = 5
	restarts     = 3 // how often a file is asked for from its beginning
	resumes      = 8 // how often the rest of a file is asked for
)

// fetcher downloads files.
type fetcher struct {
	client  *http.Client
	options Options
}

func newFetcher(o Options) *fetcher {
	dialer := publicnet.NewDialer(o.Hosts.prefixes...)
	dialer.Resolver = o.Resolver
	transport := publicnet.NewTransport()
	transport.DialContext = dialer.DialContext
	transport.DisableCompression = true // or net/http asks for it, and hides the length
	transport.ReadBufferSize = 64 << 10
	f := &fetcher{options: o}
	f.client = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return refuse("it is redirected more than %d times", maxRedirects)
		}
		req.Header.Del("Referer") // which would pass on what the URL holds
		return f.check(req.URL)
	}}
	return f
}

// check returns an error unless files may be fetched from a URL.
func (f *fetcher) check(u *url.URL) error {
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !f.options.Insecure):
		return refuse("it is not on https")
	case u.User != nil:
		return refuse("its URL has credentials")
	case !f.options.Hosts.allow(u.Hostname()):
		return refuse("its host%s is not in the archive's hosts", shown(u.Hostname()))
	}
	return nil
}

// shown returns a host that a sender chose, as it may stand in a log, after a space; empty where it is no host name.
func shown(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return " " + addr.WithZone("").String()
	}
	if name, ok := hostName(host); ok && len(name) < 256 {
		return " " + name
	}
	return ""
}

// parseURL reads a URL as bodies have them, with raw spaces and non-ASCII.
func parseURL(raw string) (*url.URL, error) {
	raw, _, _ = strings.Cut(raw, "#")
	var escaped strings.Builder
	for i := range len(raw) {
		c := raw[i]
		if c <= ' ' || c >= 0x7f && strings.Contains(raw[:i], "?") || c == '%' && !isEscape(raw[i:]) {
			fmt.Fprintf(&escaped, "%%%02X", c)
			continue
		}
		escaped.WriteByte(c)
	}
	u, err := url.Parse(escaped.String())
	if err != nil || u.Host == "" {
		return nil, refuse("its URL is malformed")
	}
	return u, nil
}

// isEscape reports whether s begins with an escaped byte.
func isEscape(s string) bool {
	if len(s) < 3 {
		return false
	}
	_, err := strconv.ParseUint(s[1:3], 16, 8)
	return err == nil
}

// download is a file on its way. Its methods are for one goroutine. Whatever goes wrong is an error of its own kind: a
// storage could mistake an io.ErrUnexpectedEOF for the end of the file, and keep half of it.
type download struct {
	fetcher     *fetcher
	url         *url.URL
	contentType string
	size        int64 // -1: not known
	etag        string

	ctx     context.Context
	cancel  context.CancelCauseFunc
	stall   *time.Timer // runs while the server is waited for, and not while the storage works
	body    io.ReadCloser
	offset  int64
	resumed int
	ended   bool
	err     error
}

// errStalled ends a download whose server sends nothing.
var errStalled = errors.New("the server stalled")

// open asks for a file and reads the header of the answer.
func (f *fetcher) open(ctx context.Context, raw string) (*download, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	if err := f.check(u); err != nil {
		return nil, err
	}
	d := &download{fetcher: f, url: u}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.stall = time.AfterFunc(f.options.Stall, func() { d.cancel(errStalled) })
	res, err := d.request()
	if err == nil {
		if err = d.begin(res); err != nil {
			_ = res.Body.Close()
		}
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// begin checks the first answer.
func (d *download) begin(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return &refusal{status: res.StatusCode, text: fmt.Sprintf("the server answered %d", res.StatusCode)}
	}
	if e := res.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return &refusal{text: "the server sent it with a Content-Encoding"}
	}
	var err error
	if d.contentType, err = mediaType(res.Header.Get("Content-Type")); err != nil {
		return err
	}
	d.size = res.ContentLength
	if d.size > d.fetcher.options.MaxSize {
		return d.tooLarge()
	}
	if etag := res.Header.Get("ETag"); strings.HasPrefix(etag, `"`) { // a weak one is no proof that the bytes are the same
		d.etag = etag
	}
	d.body = res.Body
	return nil
}

func (d *download) tooLarge() error {
	return refuse("it is larger than %d bytes, the max_size", d.fetcher.options.MaxSize)
}

// mediaType returns the type in a Content-Type if a file may have it.
func mediaType(header string) (string, error) {
	t, _, err := mime.ParseMediaType(header)
	kind, _, _ := strings.Cut(t, "/")
	if err != nil || t != "application/octet-stream" && !slices.Contains([]string{"audio", "video", "image"}, kind) {
		return "", &refusal{text: "its Content-Type is none of audio/*, video/*, image/* and application/octet-stream"}
	}
	return t, nil
}

// request asks for the file, or from the offset on for the rest of it.
func (d *download) request() (*http.Response, error) {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url.String(), http.NoBody)
	if err != nil {
		return nil, refuse("its URL is malformed")
	}
	req.Header.Set("Accept-Encoding", "identity")
	if d.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		// If-Match, since servers were seen that answer a stale If-Range with a part of the new file.
		req.Header.Set("If-Match", d.etag)
	}
	d.stall.Reset(d.fetcher.options.Stall)
	res, err := d.fetcher.client.Do(req)
	d.stall.Stop()
	if err != nil {
		return nil, d.cause(err)
	}
	return res, nil
}

// Read implements io.Reader. Where the connection breaks it asks for the rest.
func (d *download) Read(p []byte) (int, error) {
	for d.err == nil && !d.ended {
		d.stall.Reset(d.fetcher.options.Stall)
		n, err := d.body.Read(p)
		d.stall.Stop()
		d.offset += int64(n)
		switch {
		case d.offset > d.fetcher.options.MaxSize:
			d.err = d.tooLarge()
			return 0, d.err
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF):
			d.end()
			if n > 0 && d.err == nil {
				return n, nil
			}
		default:
			d.resume(err)
			if n > 0 && d.err == nil {
				return n, nil
			}
		}
	}
	if d.err != nil {
		return 0, d.err
	}
	return 0, io.EOF
}

// end notes that the server has sent what it wanted to.
func (d *download) end() {
	if d.size >= 0 && d.offset != d.size {
		d.err = &refusal{text: fmt.Sprintf("the server announced %d bytes and sent %d", d.size, d.offset)}
		return
	}
	d.ended = true
}

// resume asks for the rest of the file after an error of the connection.
func (d *download) resume(broken error) {
	_ = d.body.Close()
	if d.ctx.Err() != nil {
		d.err = d.cause(broken)
		return
	}
	if d.resumed++; d.etag == "" || d.offset == 0 || d.resumed > resumes {
		d.err = &refusal{text: d.broke(), restart: true}
		return
	}
	res, err := d.request()
	if err != nil {
		d.err = err
		return
	}
	d.body = res.Body
	if d.err = d.checkRest(res); d.err != nil {
		_ = res.Body.Close()
	}
}

func (d *download) broke() string {
	if d.size >= 0 {
		return fmt.Sprintf("the connection was closed after %d of %d bytes", d.offset, d.size)
	}
	return fmt.Sprintf("the connection was closed after %d bytes", d.offset)
}

// checkRest checks the answer to a request for the rest of the file.
func (d *download) checkRest(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		// The server sends no parts, or has another file by now.
		return &refusal{text: d.broke() + ", and the server does not send the rest", restart: true}
	default:
		return &refusal{status: res.StatusCode, text: fmt.Sprintf("asked for the rest of it, the server answered %d", res.StatusCode)}
	}
	first, total, ok := contentRange(res.Header.Get("Content-Range"))
	if !ok || first != d.offset || total >= 0 && d.size >= 0 && total != d.size {
		return &refusal{text: "the server sent another range of it than it was asked for"}
	}
	if etag := res.Header.Get("ETag"); etag != "" && etag != d.etag {
		return &refusal{text: "the server sent a part of another file", restart: true}
	}
	if total > d.fetcher.options.MaxSize {
		return d.tooLarge()
	}
	if d.size < 0 {
		d.size = total
	}
	return nil
}

// contentRange reads a Content-Range of bytes. total is -1 where the server does not say it.
func contentRange(s string) (first, total int64, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, all, found := strings.Cut(rest, "/")
	from, to, dashed := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if !strings.EqualFold(unit, "bytes") || !found || !dashed || err1 != nil || err2 != nil || first < 0 || last < first {
		return 0, 0, false
	}
	if all == "*" {
		return first, -1, true
	}
	total, err := strconv.ParseInt(all, 10, 64)
	// A part that ends before the file does would only be asked for again.
	return first, total, err == nil && last == total-1
}

// cause returns why a request or a body ended.
func (d *download) cause(err error) error {
	if cause := context.Cause(d.ctx); cause != nil {
		if errors.Is(cause, errStalled) {
			return &refusal{text: fmt.Sprintf("the server sent nothing for %s", d.fetcher.options.Stall)}
		}
		return cause
	}
	return err
}

func (d *download) close() {
	d.stall.Stop()
	d.cancel(nil)
	if d.body != nil {
		_ = d.body.Close()
	}
}
