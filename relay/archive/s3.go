package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	// partSize is how much of an upload is held in memory. Without it, a file of unknown length would be given 528 MiB.
	partSize = 16 << 20
	// tries is how often a request to the storage is made, before the delivery's own retries.
	tries = 3
)

// S3Options name a bucket of an S3 service.
type S3Options struct {
	Endpoint             string // host, or host:port
	Bucket               string // must exist
	Region               string // default: the service is asked
	AccessKey, SecretKey string
	PathStyle            bool // the bucket is in the path of URLs, and not in their host
	Insecure             bool // plain http
}

// Bucket is a Storage in a bucket of an S3 service.
type Bucket struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
}

// OpenBucket returns a storage. It asks nobody yet, so that a service that is away is an error of Put.
func OpenBucket(o S3Options) (*Bucket, error) {
	if err := s3utils.CheckValidBucketNameStrict(o.Bucket); err != nil {
		return nil, err
	}
	if !validEndpoint(o.Endpoint) {
		return nil, errors.New("expected the endpoint as host, or host:port")
	}
	transport, err := minio.DefaultTransport(!o.Insecure)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupDNS
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(o.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: !o.Insecure, Region: o.Region,
		BucketLookup: lookup, Transport: transport, MaxRetries: tries,
	})
	if err != nil {
		return nil, err
	}
	return &Bucket{client: client, transport: transport, bucket: o.Bucket}, nil
}

// validEndpoint reports whether s is a host, or host:port.
func validEndpoint(s string) bool {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || u.Hostname() == "" {
		return false
	}
	if u.Port() == "" {
		return !strings.HasSuffix(s, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// Put implements Storage.
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64, contentType string) error {
	_, err := b.client.PutObject(ctx, b.bucket, name, r, size, minio.PutObjectOptions{
		ContentType: contentType, PartSize: partSize,
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok && e.Code != "" {
		return fmt.Errorf("the S3 service answered %d %.64s", e.StatusCode, e.Code)
	}
	return fmt.Errorf("the S3 service failed: %w", errors.New(sentence(err)))
}

// Close closes connections that are idle; those of a Put under way stay.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }
