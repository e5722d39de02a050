package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// selection are the flags that select dead letters for redrive and discard.
type selection struct {
	source, destination string
	since, until        *timeFlag
	all                 bool
}

func addSelection(cmd *cobra.Command) *selection {
	s := &selection{}
	flags := cmd.Flags()
	flags.StringVarP(&s.source, "source", "s", "", "Dead letters of this source")
	flags.StringVarP(&s.destination, "destination", "d", "", "Dead letters of this destination")
	flags.BoolVar(&s.all, "all", false, "All dead letters, of all sources")
	s.since = addTime(cmd, "since", "Dead letters given up since then")
	s.until = addTime(cmd, "until", "Dead letters given up before then")
	completeNames(cmd)
	return s
}

// request returns the selection as the admin API reads it, which selects everything only if it is asked to in as many words.
func (s *selection) request() (api.Selection, error) {
	narrowed := s.source != "" || s.destination != "" || s.bounded()
	switch {
	case s.all && narrowed:
		return api.Selection{}, errors.New("expected either --all or other flags that select, not both")
	case !s.all && !narrowed:
		return api.Selection{}, errors.New("nothing is selected: expected --source, --destination, --since or --until, or --all for all dead letters")
	}
	return api.Selection{
		All: api.True(s.all), Source: s.source, Destination: s.destination, Since: s.since.String(), Until: s.until.String(),
	}, nil
}

// endAt selects only what was given up before a time, unless --until is earlier.
func (s *selection) endAt(t time.Time) {
	s.all = false // which goes with no bound; a bound alone selects of all sources, too
	if s.until.time.IsZero() || t.Before(s.until.time) {
		s.until.time = t
	}
}

func (s *selection) bounded() bool { return !s.since.time.IsZero() || !s.until.time.IsZero() }

// count returns how many dead letters are selected: the status has counted those of whole destinations already, and others
// are listed.
func (s *selection) count(ctx context.Context, c *call) (int, error) {
	if !s.bounded() {
		status, err := c.status(ctx)
		if err != nil {
			return 0, err
		}
		if status.Store.Unread {
			// None counted would mean that nobody is asked, and the store may be open by the time of the request.
			return 0, fmt.Errorf("the dead letters cannot be counted yet, since the store is not open: %s", status.Store.Error)
		}
		dead := int64(0)
		for _, d := range status.Destinations {
			if s.matches(&d) {
				dead += d.Counts.Dead
			}
		}
		return int(dead), nil
	}
	q := url.Values{}
	set(q, "source", s.source)
	set(q, "destination", s.destination)
	set(q, "since", s.since.String())
	bar := newProgress(c.terminal, "counting", 0)
	defer bar.end()
	n, cursor := 0, ""
	for {
		rows, next, err := c.page(ctx, api.PathDeadLetters, "dead_letters", q, pageSize, cursor)
		if err != nil {
			return 0, err
		}
		for _, row := range rows {
			letter, err := decode[api.DeadLetter](row, nil)
			if err != nil {
				return 0, err
			}
			if s.until.time.IsZero() || letter.DeadAt.Before(s.until.time) {
				n++
			}
		}
		if bar.show(n); next == "" {
			return n, nil
		}
		cursor = next
	}
}

func (s *selection) matches(d *api.DestinationStatus) bool {
	return (s.source == "" || s.source == d.Source) && (s.destination == "" || s.destination == d.Name)
}

// status asks for the status.
func (c *client) status(ctx context.Context) (api.Status, error) {
	raw, err := c.get(ctx, api.PathStatus, nil)
	return decode[api.Status](raw, err)
}
