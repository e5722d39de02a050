package dashboard

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// maxSize bounds all files together, in bytes, so that the first view is quick on a bad connection too.
const maxSize = 200_000

// TestFiles weighs the files, and looks for addresses outside: a page that asks another host breaks without the internet,
// and tells that host who looks at it.
func TestFiles(t *testing.T) {
	allowed := map[string]bool{
		"http://www.w3.org/2000/svg":        true, // the name of SVG, which is never asked for
		"https://github.com/leeoniya/uPlot": true, // in the comment that names the library's origin
	}
	outside := regexp.MustCompile(`(?:[a-z]+:)?//[a-zA-Z0-9][\w.-]*\.[a-z]{2,}[^\s"'<>)]*`)
	// What would need the policy to be laxer, or lets a payload be read as HTML.
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\sstyle=`)
	size := 0
	err := fs.WalkDir(embedded, "pages", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		size += len(content)
		for _, address := range outside.FindAllString(string(content), -1) {
			if !allowed[address] {
				t.Errorf("%s refers to %s", name, address)
			}
		}
		if found := unsafe.FindString(string(content)); found != "" && !strings.HasPrefix(name, "pages/vendor/") {
			t.Errorf("%s has %s", name, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if size == 0 || size > maxSize {
		t.Errorf("the files have %d bytes, expected at most %d", size, maxSize)
	}
}

func TestPages(t *testing.T) {
	pages, err := Pages()
	if err != nil {
		t.Fatal(err)
	}
	get := func(method, path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r)
		return w
	}
	for path, contentType := range map[string]string{
		"/":                           "text/html; charset=utf-8",
		"/index.html":                 "text/html; charset=utf-8",
		"/style.css":                  "text/css; charset=utf-8",
		"/app.js":                     "text/javascript; charset=utf-8",
		"/icon.svg":                   "image/svg+xml",
		"/vendor/uPlot.LICENSE":       "text/plain; charset=utf-8",
		"/vendor/uPlot.iife.min.js":   "text/javascript; charset=utf-8",
		"/vendor/uPlot.iife.min.js?x": "text/javascript; charset=utf-8",
	} {
		w := get(http.MethodGet, path, "")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != contentType || w.Body.Len() == 0 {
			t.Errorf("%s: status %d, %s, %d bytes", path, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if w := get(http.MethodGet, path, w.Header().Get("ETag")); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s again: status %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	for _, path := range []string{"/none", "/vendor", "/vendor/", "//", "/../dashboard.go", "/pages/app.js", "/app.js/"} {
		if w := get(http.MethodGet, path, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
	if w := get(http.MethodPost, "/", ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST: status %d", w.Code)
	}
}
