package archive_test

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/callbackrelay/caddy-relay/internal/s3test"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
)

func TestBucket(t *testing.T) {
	endpoint, client := s3test.Start(t, "files")
	s3 := archive.S3Options{
		Endpoint: endpoint, Bucket: "files", Region: s3test.Region, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		PathStyle: true, Insecure: true,
	}
	bucket := func(t *testing.T, s3 archive.S3Options) *archive.Bucket {
		t.Helper()
		b, err := archive.OpenBucket(s3)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	opened := func(t *testing.T, s3 archive.S3Options) *archive.Archive {
		t.Helper()
		o, _ := options(t)
		o.Storage, o.Prefix, o.Stall = bucket(t, s3), "media", 5*time.Second
		return archive.New(o)
	}
	empty := func(t *testing.T) {
		t.Helper()
		if objects := s3test.Objects(t, client, "files"); len(objects) != 0 {
			t.Errorf("left behind: %v", objects)
		}
		if n := s3test.Uploads(t, client, "files"); n != 0 {
			t.Errorf("%d uploads were not ended", n)
		}
	}
	chunked := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { h(withoutLength{w}, r) }
	}

	for name, h := range map[string]http.HandlerFunc{
		"announced, one part":     serve(content(100_000)),
		"announced, many parts":   serve(content(40 << 20)),
		"announced, whole parts":  serve(content(32 << 20)),
		"not announced, one part": chunked(serve(content(100_000))),
		"not announced, many":     chunked(serve(content(40 << 20))),
		"empty":                   serve(nil),
	} {
		t.Run(name, func(t *testing.T) {
			a := opened(t, s3)
			stored, err := a.Archive(t.Context(), event(server(t, h)+"/a.mp3"), nil)
			if err != nil || len(stored) != 1 {
				t.Fatal(stored, err)
			}
			f := stored[0]
			if !strings.HasPrefix(f.Object, "media/vocals/2026-11-29/task-1/") {
				t.Error(f.Object)
			}
			object, err := client.GetObject(t.Context(), "files", f.Object, minio.GetObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			kept, err := io.ReadAll(object)
			info, _ := object.Stat()
			if err != nil || sum(kept) != f.SHA256 || int64(len(kept)) != f.Size || info.ContentType != "audio/mpeg" {
				t.Error(len(kept), info.ContentType, err)
			}
			if err := errors.Join(object.Close(), client.RemoveObject(t.Context(), "files", f.Object, minio.RemoveObjectOptions{})); err != nil {
				t.Fatal(err)
			}
			empty(t)
		})
	}

	for name, h := range map[string]http.HandlerFunc{
		"short":       func(w http.ResponseWriter, _ *http.Request) { half(w, 100_000, 60_000) },
		"short parts": func(w http.ResponseWriter, _ *http.Request) { half(w, 40<<20, 36<<20) },
		"short, not announced": func(w http.ResponseWriter, _ *http.Request) {
			half(withoutLength{w}, 40<<20, 36<<20)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			stored, err := opened(t, s3).Archive(t.Context(), event(server(t, h)+"/a.mp3"), nil)
			if err == nil || len(stored) != 0 || !strings.Contains(err.Error(), "the connection was closed after") {
				t.Error(stored, err)
			}
			empty(t)
		})
	}

	t.Run("refused", func(t *testing.T) {
		url := server(t, serve(content(10))) + "/a.mp3"
		for reason, change := range map[string]func(*archive.S3Options){
			"the S3 service answered 404 NoSuchBucket":          func(o *archive.S3Options) { o.Bucket = "missing" },
			"the S3 service answered 403 SignatureDoesNotMatch": func(o *archive.S3Options) { o.SecretKey = "wrong-secret" },
			"the S3 service failed: connection refused":         func(o *archive.S3Options) { o.Endpoint = "127.0.0.1:1" },
		} {
			other := s3
			change(&other)
			_, err := opened(t, other).Archive(t.Context(), event(url), nil)
			if failed, ok := errors.AsType[*relay.ArchiveError](err); !ok || !failed.Storage || failed.Final || err.Error() != field+": "+reason {
				t.Errorf("%v, not %s", err, reason)
			}
		}
		empty(t)
	})

	t.Run("memory", func(t *testing.T) {
		a := opened(t, s3)
		url := server(t, chunked(serveSize(64<<20))) + "/a.wav"
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := a.Archive(t.Context(), event(url), nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 24<<20 {
			t.Errorf("%d bytes were allocated", n)
		}
	})
}

// withoutLength keeps a handler from announcing the length.
type withoutLength struct{ http.ResponseWriter }

func (w withoutLength) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

// half announces more than it sends.
func half(w http.ResponseWriter, announced, sent int) {
	w.Header().Set("Content-Type", "audio/mpeg")
	w.Header().Set("Content-Length", strconv.Itoa(announced))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(content(sent))
}
