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
)

const (
	version = "v1.8.0"

	AccessKey = "relay-test"
	SecretKey = "secret-of-relay-test"
	Region    = "us-east-1"
)

// Start starts a server with one bucket, and ends it with the test. The returned client is for the test's own look at it.
func Start(t testing.TB, bucket string) (string, *minio.Client) {
	t.Helper()
	port := freePort(t)
	endpoint := net.JoinHostPort("127.0.0.1", port)
	var log bytes.Buffer
	// It listens on all addresses: versitygw was seen to fail with one before the port.
	cmd := exec.Command(binary(t), "--port", ":"+port, "--access", AccessKey, "--secret", SecretKey, "posix", t.TempDir())
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: that is the error
	})
	await(t, endpoint)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	client, err := minio.New(endpoint, &minio.Options{
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

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// await waits until somebody listens.
func await(t testing.TB, address string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("versitygw does not listen on %s", address)
		}
	}
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
