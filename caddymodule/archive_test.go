package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/internal/s3test"
)

// TestArchive relays a callback whose files are archived: the consumer gets the archive's URLs, and the event shows the copies.
func TestArchive(t *testing.T) {
	song := []byte(strings.Repeat("la ", 10_000))
	sum := sha256.Sum256(song)
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = w.Write(song)
	}))
	t.Cleanup(files.Close)
	endpoint, client := s3test.Start(t, "files")
	folder := filepath.Join(t.TempDir(), "archive")
	t.Setenv("S3_SECRET", s3test.SecretKey)
	for storage, c := range map[string]struct {
		fields map[string]any
		size   func(object string) int64
	}{
		"file": {map[string]any{"dir": folder}, func(object string) int64 {
			info, err := os.Stat(filepath.Join(folder, object))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}},
		"s3": {map[string]any{
			"bucket": "files", "endpoint": endpoint, "access_key": s3test.AccessKey, "secret_key": "{env.S3_SECRET}", "path_style": true, "prefix": "relay",
		}, func(object string) int64 {
			return s3test.Objects(t, client, "files")[object].Size
		}},
	} {
		t.Run(storage, func(t *testing.T) {
			g := newGateway(t)
			c.fields["storage"], c.fields["insecure"], c.fields["hosts"] = storage, true, []string{"127.0.0.1"}
			c.fields["url_prefix"], c.fields["before_delivery"] = "https://files.example.com/", true
			consumer := newConsumer(t, http.StatusOK)
			handler := to(t, consumer.URL, map[string]any{"archive": c.fields})
			handler["destinations"].([]any)[0].(map[string]any)["body"] = "archived"
			g.mustLoad(`{}`, handler)
			const body = `{"code":200,"data":{"task_id":"t","vocal_removal_info":{"vocal_url":"%s"}}}`
			url := files.URL + "/a.mp3"
			status, id := g.call("vocals", fmt.Sprintf(body, url))
			if status != http.StatusOK {
				t.Fatal(status)
			}
			got := consumer.await(t)
			event := mustAdmin(t, http.MethodGet, "/relay/events/"+id, "")
			file := event["files"].([]any)[0].(map[string]any)
			keys(t, "file", file, "url", "field", "object", "content_type", "size", "sha256")
			if file["url"] != url || file["size"] != float64(len(song)) || file["sha256"] != hex.EncodeToString(sum[:]) {
				t.Errorf("file: %v", file)
			}
			object := file["object"].(string)
			if want := fmt.Sprintf(body, "https://files.example.com/"+object); got != want {
				t.Errorf("delivered %s, not %s", got, want)
			}
			if size := c.size(object); size != int64(len(song)) {
				t.Errorf("%d bytes in the archive", size)
			}
			// A file that nobody archives is its URL.
			g.mustLoad(`{}`, to(t, consumer.URL, nil))
			_, id = g.call("vocals", fmt.Sprintf(strings.Replace(body, `"t"`, `"u"`, 1), url))
			if event := mustAdmin(t, http.MethodGet, "/relay/events/"+id, ""); fmt.Sprint(event["files"]) != "["+url+"]" {
				t.Errorf("files: %v", event["files"])
			}
			consumer.await(t)
		})
	}
}

// The gauge of files that expire goes by the sender, also where the configuration is silent about it.
func TestArchiveFileLife(t *testing.T) {
	for name, c := range map[string]struct {
		fields map[string]any
		hours  float64
	}{
		"default": {nil, 14 * 24}, "suno": {map[string]any{"provider": map[string]any{"name": "suno"}}, 14 * 24},
		"kie": {map[string]any{"provider": map[string]any{"name": "kie"}}, 24},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			fields := map[string]any{"archive": map[string]any{"storage": "file", "dir": t.TempDir()}}
			maps.Copy(fields, c.fields)
			g.mustLoad(`{}`, to(t, "http://127.0.0.1:9", fields))
			dst := activeApp(t).sources["vocals"].source.Destinations[1]
			if dst.Name != "archive" || dst.FileLife.Hours() != c.hours {
				t.Errorf("%s: %s", dst.Name, dst.FileLife)
			}
		})
	}
}
