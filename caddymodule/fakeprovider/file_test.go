package fakeprovider_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

// download holds what came of a request for a file, of which twice the size is read at most.
type download struct {
	status int
	header http.Header
	length int64 // as it was announced
	body   []byte
	err    error // in the body
}

func get(t *testing.T, url string, header http.Header) (d download) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	d = download{status: res.StatusCode, header: res.Header, length: res.ContentLength}
	d.body, d.err = io.ReadAll(io.LimitReader(res.Body, 2*quick.FileSize))
	return d
}

// rest gets what follows the first n bytes of the file that a download is of.
func (d download) rest(t *testing.T, url string, n int64) download {
	t.Helper()
	return get(t, url, http.Header{"Range": {fmt.Sprintf("bytes=%d-", n)}, "If-Match": {d.header.Get("ETag")}})
}

// submitFile returns the file of a new task.
func submitFile(t *testing.T, s *fakeprovider.Server, fault fakeprovider.Fault) fakeprovider.File {
	t.Helper()
	submit(t, s, "mp4/generate", "", fmt.Sprintf(`,"fate":{"fault":%q}`, fault))
	tasks := s.Tasks()
	return tasks[len(tasks)-1].Files[0]
}

func hexSum(b ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(b, nil))
	return hex.EncodeToString(sum[:])
}

// TestFile holds that a file is the same at every request and at every range.
func TestFile(t *testing.T) {
	s := start(t, quick)
	f := submitFile(t, s, fakeprovider.FaultNone)
	whole := get(t, f.URL, nil)
	if whole.err != nil || f.Size() != quick.FileSize || hexSum(whole.body) != f.SHA256() || whole.header.Get("Content-Type") != "video/mp4" {
		t.Errorf("%+v", whole)
	}
	if d := whole.rest(t, f.URL, 5003); d.err != nil || d.status != http.StatusPartialContent || !bytes.Equal(d.body, whole.body[5003:]) {
		t.Errorf("%d: %d bytes, %v", d.status, len(d.body), d.err)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, quick)
	for fault, want := range map[fakeprovider.Fault]int{fakeprovider.FaultMissing: 404, fakeprovider.FaultText: 200, fakeprovider.FaultRedirect: 302} {
		if d := get(t, submitFile(t, s, fault).URL, nil); d.err != nil || d.status != want {
			t.Errorf("%s: %+v", fault, d)
		}
	}
	if d := get(t, submitFile(t, s, fakeprovider.FaultEndless).URL, nil); d.err != nil || d.length != -1 || int64(len(d.body)) != 2*quick.FileSize {
		t.Errorf("endless: %d, %d, %v", d.length, len(d.body), d.err)
	}
	for fault, want := range map[fakeprovider.Fault]int{fakeprovider.FaultShort: 200, fakeprovider.FaultCut: 206, fakeprovider.FaultChanged: 412} {
		f := submitFile(t, s, fault)
		half := get(t, f.URL, nil)
		if half.err == nil || int64(len(half.body)) != quick.FileSize/2 || half.length != quick.FileSize {
			t.Errorf("%s: %d, %d bytes, %v", fault, half.length, len(half.body), half.err)
		}
		d := half.rest(t, f.URL, quick.FileSize/2)
		if d.status != want || (d.err != nil) != (fault == fakeprovider.FaultShort) {
			t.Errorf("%s: %d, %v", fault, d.status, d.err)
		}
		if (hexSum(half.body, d.body) == f.SHA256()) != (fault == fakeprovider.FaultCut) {
			t.Errorf("%s: %d bytes", fault, len(d.body))
		}
	}
}

// TestStall holds that a server closes although somebody waits for the rest of a file.
func TestStall(t *testing.T) {
	s := start(t, quick)
	res, err := (&http.Client{Transport: &http.Transport{}}).Get(submitFile(t, s, fakeprovider.FaultStall).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, quick.FileSize/2); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
