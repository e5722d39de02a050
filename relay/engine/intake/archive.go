package intake

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
)

// ArchiveOf returns the source's archive; nil if it has none.
func ArchiveOf(src *relay.Source) *relay.Destination {
	i := slices.IndexFunc(src.Destinations, func(d *relay.Destination) bool { return d.Archiver != nil })
	if i < 0 {
		return nil
	}
	return src.Destinations[i]
}

// archiveFor returns the source's archive if it is to store files of the event; nil otherwise.
func archiveFor(src *relay.Source, ev *relay.Event) *relay.Destination {
	archive := ArchiveOf(src)
	if archive == nil {
		return nil
	}
	if len(archive.Stages) > 0 && !slices.Contains(archive.Stages, ev.Stage) {
		return nil
	}
	if _, files := Files(src, ev.Body); files == 0 {
		return nil
	}
	return archive
}

// Behind returns the destination whose delivery of the event one to dst has to wait for, if there is any.
func Behind(dst, archive *relay.Destination) string {
	if archive == nil || dst == archive || !archive.BeforeDelivery && dst.BodyArchived == nil {
		return ""
	}
	return archive.Name
}
