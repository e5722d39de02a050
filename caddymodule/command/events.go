package command

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// filter are the flags that select events of a list.
type filter struct {
	source, taskID, state, destination string
	since, until                       *timeFlag
}

func addFilter(cmd *cobra.Command) *filter {
	f := &filter{}
	flags := cmd.Flags()
	flags.StringVarP(&f.source, "source", "s", "", "Only events of this source")
	flags.StringVar(&f.taskID, "task-id", "", "Only events of this task")
	flags.StringVar(&f.state, "state", "", "Only events that are pending, delivered or dead")
	flags.StringVarP(&f.destination, "destination", "d", "", "Only events with a delivery to this destination")
	f.since = addTime(cmd, "since", "Only events received since then")
	f.until = addTime(cmd, "until", "Only events received before then")
	completeNames(cmd)
	return f
}

func (f *filter) query() url.Values {
	q := url.Values{}
	set(q, "source", f.source)
	set(q, "task_id", f.taskID)
	set(q, "state", f.state)
	set(q, "destination", f.destination)
	set(q, "since", f.since.String())
	set(q, "until", f.until.String())
	return q
}

// addLimit adds the flag of how many rows a list shows.
func addLimit(cmd *cobra.Command) *int {
	return cmd.Flags().IntP("limit", "n", defaultRows, "Show at most so many")
}

func checkLimit(n int) error {
	if n < 1 {
		return errors.New("--limit: expected a number of at least 1")
	}
	return nil
}

func eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [--source <name>] [--task-id <id>] [--state <state>] [--destination <name>] [--since <time>] [--until <time>] [--limit <n>]",
		Short: "Lists events, newest first",
		Long: `Lists events, newest first. The filters are combined.

An event is pending while any of its deliveries is, else dead if any of them was
given up, else delivered. DELIVERIES shows the state of each delivery by its
destination.`,
		Example: `  caddy relay events
  caddy relay events --source vocals --state dead --since 2h
  caddy relay events --task-id 5c79be8e --json`,
		Args: operands(),
	}
	f, limit := addFilter(cmd), addLimit(cmd)
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error {
		if err := checkLimit(*limit); err != nil {
			return err
		}
		raw, err := c.list(ctx, api.PathEvents, "events", f.query(), *limit)
		return answer(c, raw, err, func(page api.Events) error {
			if err := writeEvents(c.out, c.width, page.Events, time.Now()); err != nil {
				return err
			}
			return c.more(page.Next, "events")
		})
	})
	return cmd
}

func writeEvents(w io.Writer, width int, events []api.Event, now time.Time) error {
	if len(events) == 0 {
		_, err := io.WriteString(w, "There are no such events.\n")
		return err
	}
	rows := make([][]string, len(events))
	for i := range events {
		e := &events[i]
		rows[i] = []string{e.ID, ago(e.ReceivedAt, now), e.Source, e.TaskID, e.Stage, e.State, deliveriesCell(e.Deliveries)}
	}
	return table(w, width, []column{
		{title: "ID", whole: true},
		{title: "RECEIVED", whole: true},
		{title: "SOURCE"},
		{title: "TASK"},
		{title: "STAGE"},
		{title: "STATE", whole: true},
		{title: "DELIVERIES"},
	}, rows)
}

// deliveriesCell lists those that are not delivered first, since the cell may be cut.
func deliveriesCell(deliveries []api.Delivery) string {
	var open, delivered []string
	for _, d := range deliveries {
		if d.State == "delivered" {
			delivered = append(delivered, d.Destination)
		} else {
			open = append(open, d.Destination+" "+d.State)
		}
	}
	if len(open) == 0 {
		return strings.Join(delivered, ", ")
	}
	return strings.Join(append(open, delivered...), ", ")
}

// more writes below a table that there are more rows.
func (c *call) more(next, rows string) error {
	if next == "" {
		return nil
	}
	return c.note("There are more %s: raise --limit, or narrow the filters.", rows)
}
