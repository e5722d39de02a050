package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
)

func init() {
	caddy.RegisterModule(new(FileArchive))
	caddy.RegisterModule(new(S3Archive))
}

// Archive is a module of the namespace relay.archives.
type Archive interface {
	// Storage returns where files are kept, and what precedes their names. It must not need the storage to be reachable.
	Storage() (s archive.Storage, prefix string)
	// Policy returns what all archives have in common.
	Policy() *ArchivePolicy
}

// ArchivePolicy sets which files are fetched, from where, and how.
type ArchivePolicy struct {
	// The hosts that files may be fetched from: a host name, *.domain for all names below it, an IP address or a CIDR range.
	// Only what is named by its address may be private. Default: the file hosts of suno and kie.
	Hosts []string `json:"hosts,omitempty"`

	// The largest file, in bytes. Default: 536870912 (512 MiB).
	MaxSize int64 `json:"max_size,omitempty"`

	// How long one attempt to store the files of an event may take. What it has stored stays. Default: 10m.
	Timeout Duration `json:"timeout,omitempty"`

	// How long the server of a file may send nothing. Default: 30s.
	Stall Duration `json:"stall,omitempty"`

	// When failed attempts are repeated. Default: after 1m, 5m and 15m.
	Retry *Retry `json:"retry,omitempty"`

	// The public URL of the archive, which precedes the name of an object in the URL that `body archived` sends. Default:
	// none. Placeholders: {env.*} and {file.*}.
	URLPrefix string `json:"url_prefix,omitempty"`

	// Holds the other destinations of an event until its files are stored, or given up. Default: false.
	BeforeDelivery bool `json:"before_delivery,omitempty"`

	// The stages whose files are stored; `none` is that of callbacks which name no stage. Default: none, complete, success.
	Stages []string `json:"stages,omitempty"`

	// Allows to fetch files over plain http, and to reach an S3 service so. Default: false.
	Insecure bool `json:"insecure,omitempty"`
}

// Policy implements Archive.
func (p *ArchivePolicy) Policy() *ArchivePolicy { return p }

// noStage names, among stages, callbacks that name no stage.
const noStage = "none"

var defaultStages = []string{noStage, "complete", "success"}

// check returns an error unless the policy can be built, whatever its placeholders stand for.
func (p *ArchivePolicy) check() error {
	prefix, err := checkTexts([]string{p.URLPrefix}, standInURL)
	if err != nil {
		return fmt.Errorf("url_prefix: %w", err)
	}
	_, err = p.destination(new(relay.Source), nil, "", prefix[0])
	return err
}

// destination returns the destination that archives the files of a source.
func (p *ArchivePolicy) destination(src *relay.Source, storage archive.Storage, prefix, urlPrefix string) (*relay.Destination, error) {
	dst := &relay.Destination{
		Name: relay.ArchiveName, Timeout: p.Timeout.or(archive.DefaultTimeout), Permanent: []int{http.StatusGone},
		MaxInFlight: archive.MaxFetches, Expire: relay.DefaultExpire, BeforeDelivery: p.BeforeDelivery,
		Breaker: relay.BreakerPolicy{Failures: relay.DefaultBreakerFailures, Probe: relay.DefaultProbeInterval},
	}
	o := archive.Options{
		Storage: storage, Provider: src.Provider, Reading: relay.ReadOptions{Format: src.Body}, Insecure: p.Insecure, Prefix: prefix,
		MaxSize: cmp.Or(p.MaxSize, archive.DefaultMaxSize), Stall: p.Stall.or(archive.DefaultStall),
	}
	hosts := p.Hosts
	if hosts == nil {
		hosts = archive.DefaultHosts
	}
	for _, step := range []struct {
		field string
		do    func() error
	}{
		{"hosts", func() (err error) { o.Hosts, err = parseHosts(hosts); return err }},
		{"max_size", func() error { return checkMaxSize(o.MaxSize) }},
		{"timeout", func() error { return checkPositive(dst.Timeout) }},
		{"stall", func() error { return checkPositive(o.Stall) }},
		{"retry", func() (err error) { dst.Retry, err = p.Retry.policy(); return err }},
		{"url_prefix", func() (err error) { o.URLPrefix, err = parseURLPrefix(urlPrefix); return err }},
		{"stages", func() (err error) { dst.Stages, err = parseStages(p.Stages); return err }},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.field, err)
		}
	}
	dst.Archiver = archive.New(o)
	return dst, nil
}

// fileLife returns how long a sender keeps files, by the name of its provider. Those of suno are there for 14 days; of others
// it is known that some are gone after a day.
func fileLife(provider string) time.Duration {
	if provider == "suno" {
		return 14 * 24 * time.Hour
	}
	return 24 * time.Hour
}

func parseHosts(list []string) (archive.Hosts, error) {
	if len(list) == 0 {
		return archive.Hosts{}, errors.New("expected at least one entry, or no such field")
	}
	return archive.ParseHosts(list)
}

func checkMaxSize(n int64) error {
	const most = 100 << 30
	if n < 1 || n > most {
		return fmt.Errorf("expected a size of 1 byte to 100GiB, got %d bytes", n)
	}
	return nil
}

func parseStages(list []string) ([]string, error) {
	if list == nil {
		list = defaultStages
	}
	if err := checkWritten(list...); err != nil {
		return nil, err
	}
	stages := slices.Clone(list)
	for i, s := range stages {
		if s == "" || slices.Contains(stages[:i], s) {
			return nil, fmt.Errorf("expected different stages, or %s, got %q", noStage, list)
		}
	}
	if len(stages) == 0 {
		return nil, errors.New("expected at least one stage, or no such field")
	}
	if i := slices.Index(stages, noStage); i >= 0 {
		stages[i] = ""
	}
	return stages, nil
}

// parseURLPrefix reads the URL that names of objects are appended to.
func parseURLPrefix(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := parseURL(s)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" || u.ForceQuery || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
		return "", errors.New("expected a URL of ASCII without a query, as in https://files.example.com/callbacks")
	}
	return s, nil
}

// FileArchive keeps the files of callbacks in a folder.
type FileArchive struct {
	ArchivePolicy

	// The folder. It is made if it is missing. Placeholders: {env.*} and {file.*}. Required.
	Dir string `json:"dir,omitempty"`

	// How long a file is kept, unless its event is not delivered yet. Default: for ever.
	Keep Duration `json:"keep,omitempty"`

	storage archive.Storage
}

// CaddyModule returns the Caddy module information.
func (*FileArchive) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.archives.file",
		New: func() caddy.Module { return new(FileArchive) },
	}
}

// Provision resolves the folder. It makes nothing.
func (a *FileArchive) Provision(caddy.Context) error {
	dir, err := resolve(a.Dir)
	if err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	a.storage, err = a.build(dir)
	return err
}

func (a *FileArchive) build(dir string) (archive.Storage, error) {
	if dir == "" {
		return nil, errors.New("dir: expected a folder")
	}
	if a.Keep < 0 {
		return nil, fmt.Errorf("keep: %w", checkPositive(time.Duration(a.Keep)))
	}
	return archive.NewFolder(dir, time.Duration(a.Keep))
}

// Storage implements Archive.
func (a *FileArchive) Storage() (s archive.Storage, prefix string) { return a.storage, "" }

// S3Archive keeps the files of callbacks in a bucket of an S3 service.
type S3Archive struct {
	ArchivePolicy

	// The bucket, which must exist. Required.
	Bucket string `json:"bucket,omitempty"`

	// The service: host, or host:port. Required. Placeholders: {env.*} and {file.*}.
	Endpoint string `json:"endpoint,omitempty"`

	// The bucket's region. Default: the service is asked for it.
	Region string `json:"region,omitempty"`

	// The access key. Required. Placeholders: {env.*} and {file.*}.
	AccessKey string `json:"access_key,omitempty"`

	// The secret key. Required. Placeholders: {env.*} and {file.*}.
	SecretKey string `json:"secret_key,omitempty"`

	// Names the bucket in the path of URLs, and not in their host. Default: false.
	PathStyle bool `json:"path_style,omitempty"`

	// What precedes the names of all objects, as a folder. Default: none.
	Prefix string `json:"prefix,omitempty"`

	bucket *archive.Bucket
}

// CaddyModule returns the Caddy module information.
func (*S3Archive) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.archives.s3",
		New: func() caddy.Module { return new(S3Archive) },
	}
}

// Provision resolves the keys. It asks nobody.
func (a *S3Archive) Provision(caddy.Context) (err error) {
	a.bucket, err = a.build(func(field, s string) (string, error) {
		if s == "" {
			return "", fmt.Errorf("%s: expected a text", field)
		}
		if s, err = resolve(s); err != nil {
			return "", fmt.Errorf("%s: %w", field, err)
		}
		return s, nil
	})
	return err
}

// build returns the storage, of the settings as text returns them.
func (a *S3Archive) build(text func(field, s string) (string, error)) (*archive.Bucket, error) {
	o := archive.S3Options{Bucket: a.Bucket, Region: a.Region, PathStyle: a.PathStyle, Insecure: a.Insecure}
	var errs [3]error
	o.Endpoint, errs[0] = text("endpoint", a.Endpoint)
	o.AccessKey, errs[1] = text("access_key", a.AccessKey)
	o.SecretKey, errs[2] = text("secret_key", a.SecretKey)
	if err := cmp.Or(errs[:]...); err != nil {
		return nil, err
	}
	if err := checkWritten(a.Region); err != nil {
		return nil, fmt.Errorf("region: %w", err)
	}
	if err := archive.CheckPrefix(a.Prefix); err != nil {
		return nil, fmt.Errorf("prefix: %w", err)
	}
	return archive.OpenBucket(o)
}

// Storage implements Archive.
func (a *S3Archive) Storage() (s archive.Storage, prefix string) { return a.bucket, a.Prefix }

// Cleanup closes connections that are idle. Attempts of the config before go on.
func (a *S3Archive) Cleanup() error {
	if a.bucket != nil {
		a.bucket.Close()
	}
	return nil
}

func (a *S3Archive) literalSecret() bool { return literal([]string{a.AccessKey, a.SecretKey}) }

// addArchive adds the destination of the handler's archive, if it has one, and hands it to those whose body
// has its URLs. provider is the name of the source's.
func (h *Handler) addArchive(ctx caddy.Context, src *relay.Source, provider string) error {
	if err := checkArchived(h.Destinations, h.ArchiveRaw); err != nil {
		return err
	}
	archive, err := h.archiveDestination(ctx, src)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if archive == nil {
		return nil
	}
	archive.FileLife = fileLife(provider)
	for i, d := range h.Destinations {
		if d.Body == bodyArchived {
			src.Destinations[i].BodyArchived = archive.Archiver
		}
	}
	src.Destinations = append(src.Destinations, archive)
	return nil
}

// archiveDestination returns the destination of the handler's archive; nil if it has none.
func (h *Handler) archiveDestination(ctx caddy.Context, src *relay.Source) (*relay.Destination, error) {
	if h.ArchiveRaw == nil {
		return nil, nil
	}
	module, err := ctx.LoadModule(h, "ArchiveRaw")
	if err != nil {
		return nil, err
	}
	a, ok := module.(Archive)
	if !ok {
		return nil, fmt.Errorf("%T does not archive files", module)
	}
	if s, ok := module.(interface{ literalSecret() bool }); ok && s.literalSecret() {
		warnOfLiteral(src.Logger, "a key of archive", "source", src.Name)
	}
	prefix, err := resolve(a.Policy().URLPrefix)
	if err != nil {
		return nil, fmt.Errorf("url_prefix: %w", err)
	}
	storage, folder := a.Storage()
	return a.Policy().destination(src, storage, folder, prefix)
}

// checkArchived returns an error where a destination's body is to have the URLs of an archive which has none, or is not there.
func checkArchived(list []*Destination, archiveRaw json.RawMessage) error {
	var archive struct {
		URLPrefix string `json:"url_prefix"`
	}
	_ = json.Unmarshal(archiveRaw, &archive) // what cannot be read is refused when it is loaded
	if archive.URLPrefix != "" {
		return nil
	}
	for i, d := range list {
		if d != nil && d.Body == bodyArchived {
			return fmt.Errorf("destination %s: body archived: expected archive with url_prefix in its source, which the URLs in the body are to begin with", d.label(i))
		}
	}
	return nil
}

// Interface guards
var (
	_ Archive            = (*FileArchive)(nil)
	_ Archive            = (*S3Archive)(nil)
	_ caddy.Provisioner  = (*FileArchive)(nil)
	_ caddy.Provisioner  = (*S3Archive)(nil)
	_ caddy.CleanerUpper = (*S3Archive)(nil)
)
