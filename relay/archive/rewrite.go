package archive

import (
	"context"
	"net/url"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Rewrite implements relay.Archiver.
func (a *Archive) Rewrite(ev *relay.Event, files []relay.File) []byte {
	if a.options.URLPrefix == "" || len(files) == 0 {
		return ev.Body
	}
	places, _, _ := a.places(context.Background(), ev) // fails with its context alone
	var body []byte
	last := 0
	for _, p := range places {
		i := slices.IndexFunc(files, p.isOf)
		if i < 0 {
			continue
		}
		text := a.url(files[i].Object)
		if a.options.Reading.Format == payload.Form {
			text = url.QueryEscape(text)
		}
		body = append(append(body, ev.Body[last:p.start]...), text...)
		last = p.end
	}
	return append(body, ev.Body[last:]...)
}
