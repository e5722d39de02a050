package command

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func tasksCommand() *cobra.Command {
	var source, state string
	cmd := &cobra.Command{
		Use:   "tasks [--source <name>] [--state <state>] [--limit <n>]",
		Short: "Lists tasks whose callback is expected, and what became of others",
		Long: `Lists the tasks of sources with recover, newest registered first: those whose final
callback is expected, and those that have ended within retention.

A task is overdue when its callback has not come in time, and its details are
asked from then on. It ends as called_back, as recovered (the details had the
result, which became an event in the callback's place), or as given_up. REASON is
what the last question has found.`,
		Example: `  caddy relay tasks --state overdue
  caddy relay tasks --source vocals --state given_up --json`,
		Args: operands(),
	}
	cmd.Flags().StringVarP(&source, "source", "s", "", "Only tasks of this source")
	cmd.Flags().StringVar(&state, "state", "", "Only tasks that are expected, overdue, recovered, given_up or called_back")
	completeNames(cmd)
	return tasks.command(cmd, func() url.Values {
		q := url.Values{}
		set(q, "source", source)
		set(q, "state", state)
		return q
	})
}

var tasks = listing[api.Task]{
	path: api.PathTasks, field: "tasks", rows: "tasks", none: "There are no such tasks.",
	columns: []column{
		{title: "TASK", whole: true},
		{title: "SOURCE", spare: 3},
		{title: "STATE", whole: true},
		{title: "EXPECTED", whole: true, spare: 2},
		{title: "POLLS", right: true, spare: 6},
		{title: "LAST POLL", whole: true, spare: 5},
		{title: "EVENT", whole: true, spare: 4},
		{title: "REASON", spare: 1},
	},
	cells: func(t *api.Task, now time.Time) []string {
		last := ""
		if t.LastPollAt != nil {
			last = ago(*t.LastPollAt, now)
		}
		return []string{
			t.TaskID, t.Source, strings.ReplaceAll(t.State, "_", " "), ago(t.ExpectedAt, now), strconv.Itoa(t.Polls), last, t.EventID, t.Reason,
		}
	},
}

func expectCommand() *cobra.Command {
	var submittedTo string
	cmd := &cobra.Command{
		Use:   "expect <source> <task_id> [--api <path>]",
		Short: "Expects the callback of a task that was submitted elsewhere",
		Long: `Registers a task that was not submitted through the gateway, durably. If its final
callback does not come, its details are asked, and their result becomes an event
in the callback's place. A task that is expected already, or was called back,
stays as it is; one that was given up is expected anew.

The API is the path that the task was submitted to, below the provider's base. It
may be left out only where the URL in recover is a details endpoint of the
provider, such as …/api/v1/vocal-removal/record-info.`,
		Example:           `  caddy relay expect vocals 5c79be8e --api api/v1/vocal-removal/generate`,
		Args:              operands("<source>", "<task_id>"),
		ValidArgsFunction: completeDestination(1),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			raw, err := c.post(ctx, api.PathTasks, api.ExpectRequest{Source: args[0], TaskID: args[1], API: submittedTo})
			return answer(c, raw, err, func(e api.Expected) error {
				return c.printf("The callback of task %s of %s is expected.", e.TaskID, e.Source)
			})
		}),
	}
	cmd.Flags().StringVar(&submittedTo, "api", "", "Path that the task was submitted to")
	return cmd
}
