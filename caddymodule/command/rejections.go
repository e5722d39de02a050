package command

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func rejectionsCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "rejections [--source <name>] [--limit <n>]",
		Short: "Lists the newest callbacks that were rejected, with the reason",
		Long: `Lists the newest callbacks that the gateway which is asked has rejected, with the
reason. They are kept in its memory: 100 of each source and reason, 16 MiB in
all, until it ends.

Where KEPT says yes, the whole callback is there, so that it can be accepted
after all, once a wrong secret has been mended for example.`,
		Example: `  caddy relay rejections
  caddy relay rejections --source vocals --limit 200
  caddy relay rejections accept 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB`,
		Args: operands(),
	}
	cmd.Flags().StringVarP(&source, "source", "s", "", "Only rejected callbacks of this source")
	completeNames(cmd)
	cmd.AddCommand(acceptCommand())
	return rejections.command(cmd, func() url.Values {
		q := url.Values{}
		set(q, "source", source)
		return q
	})
}

func acceptCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "accept <id>",
		DisableFlagsInUseLine: true,
		Short:                 "Accepts a rejected callback after all",
		Long: `Accepts a callback that was rejected because of its address, its signature or its
shape, as if it had been sent again and let in: it becomes an event, unless it
turns out to be a duplicate, and is delivered. Only what was rejected is known of
its sender, so look at it first: caddy relay rejections --json shows the payload.`,
		Example: `  caddy relay rejections accept 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB`,
		Args:    operands("<id>"),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			raw, err := c.post(ctx, api.AcceptPath(args[0]), struct{}{})
			return answer(c, raw, err, func(a api.RejectionAccepted) error { return c.printf("Event %s: %s.", a.EventID, a.Result) })
		}),
	}
}

var rejections = listing[api.Rejection]{
	path: api.PathRejections, field: "rejections", rows: "rejected callbacks", none: "No such callback was rejected since this gateway was started.",
	columns: []column{
		{title: "ID", whole: true},
		{title: "WHEN", whole: true, spare: 3},
		{title: "SOURCE", spare: 4},
		{title: "STATUS", right: true, spare: 5},
		{title: "SENDER", spare: 6},
		{title: "TASK", spare: 7},
		{title: "KEPT", whole: true, spare: 2},
		{title: "REASON"},
	},
	cells: func(r *api.Rejection, now time.Time) []string {
		kept := "no"
		switch {
		case r.Accepted != "":
			kept = "accepted"
		case r.CanAccept:
			kept = "yes"
		}
		return []string{r.ID, ago(r.At, now), r.Source, strconv.Itoa(r.Status), r.Client, r.TaskID, kept, r.Message}
	},
}
