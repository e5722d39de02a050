package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const eventID = "01K5ZV9S5Q8VJ8A9YB0N7DQ2RT"

// event is a callback about one file.
func event(url string) *relay.Event {
	return &relay.Event{
		ID: eventID, Source: "vocals", TaskID: "task-1", ReceivedAt: time.Date(2026, 11, 28, 23, 30, 0, 0, time.FixedZone("", -3600)),
		Body: fmt.Appendf(nil, `{"code":200,"data":{"task_id":"task-1","vocal_removal_info":{"vocal_url":%q,"origin_url":""}}}`, url),
	}
}

// field is where event has its file.
const field = "data.vocal_removal_info.vocal_url"

// content returns n bytes that differ.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// server serves files to the archive, over plain http.
func server(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// serve serves one file, which may be asked for in parts.
func serve(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

// options are those of an archive in a folder that may fetch from this machine.
func options(t testing.TB, hosts ...string) (o archive.Options, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "archive")
	storage, err := archive.NewFolder(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := archive.ParseHosts(append(hosts, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	return archive.Options{
		Storage: storage, Provider: provider.Suno(), Hosts: allowed, Insecure: true, URLPrefix: "https://files.example.com/a", Stall: 20 * time.Second,
	}, folder
}

// files lists the files below a folder.
func files(t testing.TB, folder string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// memory is a storage that keeps the sizes of files alone.
type memory struct {
	names chan string
}

func (m memory) Put(_ context.Context, name string, r io.Reader, _ int64, _ string) error {
	_, err := io.Copy(struct{ io.Writer }{io.Discard}, r)
	if err == nil && m.names != nil {
		m.names <- name
	}
	return err
}

// refused runs an attempt that must fail, and returns the reason.
func refused(t *testing.T, o archive.Options, folder, url string) string {
	t.Helper()
	stored, err := archive.New(o).Archive(t.Context(), event(url), nil)
	if err == nil || len(stored) != 0 {
		t.Fatalf("stored %v, error %v", stored, err)
	}
	if left := files(t, folder); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if text := err.Error(); strings.Contains(text, "://") || strings.Contains(text, "secret") || strings.Contains(text, "\n") {
		t.Errorf("the reason holds the URL: %s", text)
	}
	return err.Error()
}

// serveSize serves a file of a size, as fast as it is read.
func serveSize(size int) http.HandlerFunc {
	block := content(1 << 20)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for n := size; n > 0; n -= len(block) {
			if _, err := w.Write(block[:min(n, len(block))]); err != nil {
				return
			}
		}
	}
}
