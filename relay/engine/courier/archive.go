package courier

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// archive stores the files of a leased delivery's event. An attempt that stores all has the status by which the servers of
// the files answered; one that does not has the status of the server that refused, if one did.
func archive(ctx context.Context, dst *relay.Destination, d *relay.Leased) *Answer {
	a := &Answer{Attempt: relay.Attempt{At: time.Now()}}
	attempt, cancel := context.WithTimeout(ctx, dst.Timeout)
	defer cancel()
	var err error
	a.Files, err = dst.Archiver.Archive(attempt, d.Event, d.Files)
	a.Duration = time.Since(a.At)
	if err == nil {
		a.Status = http.StatusOK
		return a
	}
	a.Error = err.Error()
	a.Released = ctx.Err() != nil
	a.Missing, _ = errors.AsType[*relay.ArchiveError](err)
	if a.Missing != nil {
		a.Status = a.Missing.Status
	}
	return a
}

// archived returns the delivery with the body that goes to its destination: with the URLs of the archive, where the
// destination wants those.
func archived(dst *relay.Destination, d *relay.Leased) *relay.Leased {
	if dst.BodyArchived == nil || len(d.Files) == 0 {
		return d
	}
	ev, sent := *d.Event, *d
	ev.Body = dst.BodyArchived.Rewrite(d.Event, d.Files)
	sent.Event = &ev
	return &sent
}
