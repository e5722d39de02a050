// Package dashboard holds the pages of the handler `relay_dashboard`: plain HTML, CSS and JavaScript modules, embedded as they
// are written. They load nothing from elsewhere, and read and steer the gateway through the admin API below api/, next to
// which they are served. Every link is relative, so that they work below any path.
//
// pages/vendor holds uPlot 1.6.32, which draws the charts, as its npm package has it.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed pages
var embedded embed.FS

// contentTypes are set here because the system's table, which net/http would ask, may say anything.
var contentTypes = map[string]string{
	".html":    "text/html; charset=utf-8",
	".css":     "text/css; charset=utf-8",
	".js":      "text/javascript; charset=utf-8",
	".svg":     "image/svg+xml",
	".LICENSE": "text/plain; charset=utf-8",
}

// policy allows what the pages need: their own scripts, styles and images, and requests to their own origin. Whatever a
// payload holds, nothing of it can run, load or be sent anywhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// SetSecurityHeaders sets the headers that every answer of the dashboard carries, those of its API included.
func SetSecurityHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// pages serves the embedded files.
type pages map[string]page

type page struct {
	content     []byte
	contentType string
	tag         string
}

// Pages returns a handler of the embedded files, whose root is the path "/".
func Pages() (http.Handler, error) {
	all := make(pages)
	err := fs.WalkDir(embedded, "pages", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		all[strings.TrimPrefix(name, "pages")] = page{content, contentTypes[path.Ext(name)], `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	all["/"] = all["/index.html"]
	return all, err
}

// ServeHTTP answers with a file, or with 304 where the browser has it already: files have no version in their name, so that
// a browser asks each time.
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Expected the method GET.", http.StatusMethodNotAllowed)
		return
	}
	file, ok := p[r.URL.Path]
	if !ok {
		http.Error(w, "There is nothing at this path.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", file.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}
