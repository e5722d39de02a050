// Package s3test starts a real S3 server for tests: versitygw, which is built once and kept in the user's cache.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
)

const (
	version = "v1.8.0"

	AccessKey = "relay-test"
	SecretKey = "secret-of-relay-test"
	Region    = "us-east-1"
)

// Start starts a server with one bucket, and ends it with the test. The returned client is for the test's own look at it.
func Start(t testing.TB, bucket string) (endpoint string, client *minio.Client) {
	t.Helper()
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	endpoint = fmt.Sprintf("127.0.0.1:%d", port)
	var log bytes.Buffer
	// It listens on all addresses: versitygw was seen to fail with one before the port.
	cmd := exec.Command(binary(t), "--port", fmt.Sprintf(":%d", port), "--access", AccessKey, "--secret", SecretKey, "posix", t.TempDir())
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: that is the error
	})
	redistest.Eventually(t, 20*time.Second, "versitygw listens", func() bool {
		conn, err := net.DialTimeout("tcp", endpoint, time.Second)
		return err == nil && conn.Close() == nil
	})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	client, err = minio.New(endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: Region, BucketLookup: minio.BucketLookupPath, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return endpoint, client
}

// Objects lists what is in a bucket, by name.
func Objects(t testing.TB, client *minio.Client, bucket string) map[string]minio.ObjectInfo {
	t.Helper()
	objects := map[string]minio.ObjectInfo{}
	for o := range client.ListObjects(context.Background(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		objects[o.Key] = o
	}
	return objects
}

// Uploads counts the uploads of a bucket that were begun and not ended.
func Uploads(t testing.TB, client *minio.Client, bucket string) (n int) {
	t.Helper()
	for u := range client.ListIncompleteUploads(context.Background(), bucket, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		n++
	}
	return n
}

// binary returns versitygw, and builds it if it is not there.
func binary(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, "caddy-relay", "versitygw-"+version)
	file := filepath.Join(folder, "versitygw")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	// Tests of several packages may build it at the same time: each where nobody else does, and the last one stays.
	built := t.TempDir()
	cmd := exec.Command("go", "install", "github.com/versity/versitygw/cmd/versitygw@"+version)
	cmd.Dir = built
	cmd.Env = append(os.Environ(), "GOBIN="+built, "GOFLAGS=-trimpath", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("versitygw is needed for this test: %v\n%s", err, out)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(built, "versitygw"))
	if err != nil {
		t.Fatal(err)
	}
	part := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(part, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, file); err != nil {
		t.Fatal(err)
	}
	return file
}
