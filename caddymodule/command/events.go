package command

import (
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
	return events.command(cmd, addFilter(cmd).query)
}

var events = listing[api.Event]{
	path: api.PathEvents, field: "events", rows: "events", none: "There are no such events.",
	columns: []column{
		{title: "ID", whole: true},
		{title: "RECEIVED", whole: true, spare: 3},
		{title: "SOURCE", spare: 5},
		{title: "TASK", spare: 2},
		{title: "STAGE", spare: 6},
		{title: "STATE", whole: true},
		{title: "DELIVERIES", spare: 4},
	},
	cells: func(e *api.Event, now time.Time) []string {
		return []string{e.ID, ago(e.ReceivedAt, now), e.Source, e.TaskID, e.Stage, e.State, deliveriesCell(e.Deliveries)}
	},
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
