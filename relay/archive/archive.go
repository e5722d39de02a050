// Package archive keeps copies of the files that callbacks name, since their senders delete them after hours or days. It
// fetches from hosts that are allowed and from public addresses only, streams into a [Storage] without holding a file in
// memory, and puts the URLs of the copies into a callback's body.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Defaults and limits.
const (
	DefaultMaxSize = 512 << 20 // bytes of a file
	DefaultTimeout = 10 * time.Minute
	DefaultStall   = 30 * time.Second

	// MaxFiles is how many files of an event are stored.
	MaxFiles = 32
	// MaxFetches is how many files an archive fetches at once, of whichever events.
	MaxFetches = 4
)

// Storage keeps files. It is safe for concurrent use.
type Storage interface {
	// Put stores what r has under a name, which it replaces in one step where it is there already. size is -1 where it is
	// not known. After an error, of r too, nothing of the name has changed and nothing is left over.
	Put(ctx context.Context, name string, r io.Reader, size int64, contentType string) error
}

// Options are the settings of an archive.
type Options struct {
	Storage Storage
	// Provider reads from a body which files it names, as Reading says.
	Provider relay.Provider
	Reading  relay.ReadOptions
	// Hosts are the hosts that files may be fetched from. Default: none.
	Hosts Hosts
	// Insecure allows plain http.
	Insecure bool
	// MaxSize bounds a file, in bytes. Default: DefaultMaxSize.
	MaxSize int64
	// Stall is how long a server may send nothing, also before its answer begins. Default: DefaultStall.
	Stall time.Duration
	// Prefix precedes the names of all objects, as a folder. Default: none.
	Prefix string
	// URLPrefix precedes the name of an object in its public URL. Default: none, so that bodies keep their URLs.
	URLPrefix string
	// Resolver looks up the hosts. Default: net.DefaultResolver.
	Resolver *net.Resolver
}

// Archive implements relay.Archiver.
type Archive struct {
	options Options
	fetcher *fetcher
	slots   chan struct{} // holds one for each fetch
}

// New returns an archive.
func New(o Options) *Archive {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.URLPrefix != "" && !strings.HasSuffix(o.URLPrefix, "/") {
		o.URLPrefix += "/"
	}
	return &Archive{options: o, fetcher: newFetcher(o), slots: make(chan struct{}, MaxFetches)}
}

// Expire implements relay.FileExpirer, as its storage does.
func (a *Archive) Expire(ctx context.Context, delivered func(ctx context.Context, eventID string) (bool, error)) error {
	if s, ok := a.options.Storage.(relay.FileExpirer); ok {
		return s.Expire(ctx, delivered)
	}
	return nil
}

// Archive implements relay.Archiver. The error is a *relay.ArchiveError.
func (a *Archive) Archive(ctx context.Context, ev *relay.Event, done []relay.File) ([]relay.File, error) {
	places, more, err := a.places(ctx, ev)
	if err != nil {
		return nil, &relay.ArchiveError{Failed: more, Reason: sentence(err)}
	}
	missing := &relay.ArchiveError{Final: true}
	kept := min(len(places), MaxFiles)
	if n := len(places) + more - kept; n > 0 {
		missing.Failed, missing.Reason = n, fmt.Sprintf("the event names %d files, of which %d are archived", kept+n, kept)
		if more > 0 {
			missing.Reason += fmt.Sprintf("; %d are past %d places of URLs, or at paths of more than %d bytes", more, maxPlaces, maxPath)
		}
		places = places[:kept]
	}
	places = slices.DeleteFunc(places, func(p place) bool {
		return slices.ContainsFunc(done, p.isOf)
	})
	files := make([]relay.File, len(places))
	errs := make([]error, len(places))
	bytes := make([]int64, len(places))
	var fetches sync.WaitGroup
	for i, p := range places {
		fetches.Go(func() {
			select {
			case a.slots <- struct{}{}:
				defer func() { <-a.slots }()
				errs[i] = guard.Step(func() (err error) { // a storage may be anybody's
					files[i], bytes[i], err = a.store(ctx, ev, p)
					return err
				})
			case <-ctx.Done():
				errs[i] = context.Cause(ctx)
			}
		})
	}
	fetches.Wait()
	var stored []relay.File
	for i, err := range errs {
		if err == nil {
			stored = append(stored, files[i])
			continue
		}
		missing.Bytes += bytes[i]
		note(missing, places[i].field, err)
	}
	if missing.Failed > 0 {
		return stored, missing
	}
	return stored, nil
}

// note adds to e that a file could not be stored. The first reason is kept, and others are counted.
func note(e *relay.ArchiveError, field string, err error) {
	r, refused := errors.AsType[*refusal](err)
	e.Failed++
	_, ofStorage := errors.AsType[*storageError](err)
	panicked, ok := errors.AsType[*guard.PanicError](err)
	if ok {
		e.Panic = panicked
	}
	e.Storage = e.Storage || ofStorage || ok
	e.Final = e.Final && refused && r.final
	if e.Reason != "" {
		e.Others++
		return
	}
	e.Reason = field + ": " + sentence(err)
	if refused && r.status >= http.StatusMultipleChoices { // another one is no refusal by itself
		e.Status = r.status
	}
}

// store fetches one file into the storage. n is how much of it came.
func (a *Archive) store(ctx context.Context, ev *relay.Event, p place) (f relay.File, n int64, err error) {
	// A server that cannot send the rest of a file is asked for all of it again.
	for range restarts {
		var sent int64
		f, sent, err = a.storeOnce(ctx, ev, p)
		n += sent
		if err == nil || !errors.Is(err, errRestart) {
			return f, n, err
		}
	}
	return f, n, err
}

func (a *Archive) storeOnce(ctx context.Context, ev *relay.Event, p place) (f relay.File, n int64, err error) {
	d, err := a.fetcher.open(ctx, p.url)
	if err != nil {
		return f, 0, err
	}
	defer d.close()
	hash := sha256.New()
	name := path.Join(strings.Trim(a.options.Prefix, "/"), objectName(ev, p, d.contentType))
	err = a.options.Storage.Put(ctx, name, io.TeeReader(d, hash), d.size, d.contentType)
	if d.err != nil {
		err = d.err // what the storage makes of it says less
	}
	if err == nil && !d.ended && d.offset != d.size {
		err = errors.New("the storage has kept a part of the file only")
	}
	if err != nil && d.err == nil && ctx.Err() == nil {
		err = &storageError{err}
	}
	if err != nil {
		return f, d.offset, err
	}
	return relay.File{
		Field: p.field, URL: p.url, Object: name, ContentType: d.contentType,
		Size: d.offset, SHA256: hex.EncodeToString(hash.Sum(nil)),
	}, d.offset, nil
}

// url returns the public URL of an object. It needs no escaping in JSON.
func (a *Archive) url(object string) string {
	return a.options.URLPrefix + (&url.URL{Path: object}).EscapedPath()
}

// places returns where the body of an event names files, as findPlaces does.
func (a *Archive) places(ctx context.Context, ev *relay.Event) (places []place, more int, err error) {
	return findPlaces(ctx, ev.Body, a.options.Reading.Format, func(body []byte) relay.Reading {
		r, _ := a.options.Provider.Read(body, header(ev), a.options.Reading)
		return r
	})
}

// header returns the header of the request that brought an event, since a provider may read the task's id from it.
func header(ev *relay.Event) http.Header {
	h := make(http.Header, len(ev.Headers))
	for name, value := range ev.Headers {
		h.Set(name, value)
	}
	return h
}

var (
	_ relay.Archiver    = (*Archive)(nil)
	_ relay.FileExpirer = (*Archive)(nil)
)
