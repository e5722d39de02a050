package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause <source> <destination>",
		Short: "Holds the deliveries of a destination until it is resumed",
		Long: `Holds the deliveries of a destination until it is resumed. Callbacks are accepted
and answered as before, and their deliveries wait. An attempt that is under way
ends. The pause outlives restarts and reloads, and every gateway that shares the
store obeys it. Deliveries that wait longer than the destination's expire are
given up, paused or not.`,
		Example:           `  caddy relay pause vocals billing`,
		Args:              operands("<source>", "<destination>"),
		ValidArgsFunction: completeDestination(2),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			return setPaused(ctx, c, api.PausePath(args[0], args[1]))
		}),
	}
}

func resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "resume <source> <destination>",
		Short:             "Releases the deliveries of a paused destination",
		Long:              `Releases the deliveries of a paused destination. Those that are due start at once.`,
		Example:           `  caddy relay resume vocals billing`,
		Args:              operands("<source>", "<destination>"),
		ValidArgsFunction: completeDestination(2),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			return setPaused(ctx, c, api.ResumePath(args[0], args[1]))
		}),
	}
}

func setPaused(ctx context.Context, c *call, path string) error {
	raw, err := c.post(ctx, path, struct{}{})
	return answer(c, raw, err, func(p api.Paused) error {
		state := "resumed"
		if p.Paused {
			state = "paused"
		}
		return c.printf("The destination %s of %s is %s.", p.Destination, p.Source, state)
	})
}

func reassignCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reassign <source> <old destination> <new destination>",
		Short: "Hands the deliveries of a renamed destination to its new name",
		Long: `Hands the deliveries of a destination that is no longer configured, which the
status shows as orphaned, to another destination of the same source: above all
to the one that it was renamed to. Dead letters are handed over too. What waits
then obeys the new destination: it is held while that is paused or failing, and
a pause of the old one stays with its name.

Some deliveries may stay where they are: those that are in flight, those that
wait behind one of these in the order of a task, and those of events that the
new destination has a delivery of already. Where gateways share a Redis, load the
new configuration on all of them first: until then nothing is handed over.`,
		Example:           `  caddy relay reassign vocals billing billing-v2`,
		Args:              operands("<source>", "<old destination>", "<new destination>"),
		ValidArgsFunction: completeDestination(3),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			raw, err := c.bulk(ctx, api.ReassignPath(args[0], args[1]), api.ReassignRequest{To: args[2]}, "reassigning", 0)
			return answer(c, raw, err, func(r api.Reassigned) error {
				if r.Left > 0 {
					return c.printf("%s reassigned to %s, %s left with %s.", counted(r.Reassigned, "delivery", "deliveries"), args[2], thousands(r.Left), args[1])
				}
				return c.printf("%s reassigned to %s.", counted(r.Reassigned, "delivery", "deliveries"), args[2])
			})
		}),
	}
}
