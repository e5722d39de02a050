package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func redriveCommand() *cobra.Command {
	var rate string
	cmd := &cobra.Command{
		Use:   "redrive [--source <name>] [--destination <name>] [--since <time>] [--until <time>] [--rate <n>/<s|m|h>] | --all",
		Short: "Replays dead letters",
		Long: `Replays the dead letters that are selected: they are due again, with a fresh retry
budget. The flags are combined, and at least one is needed; --all selects every
dead letter of every source. Each dead letter is redriven once, also when two
operators ask at the same moment.

Without --rate all of them are due at once, and delivered as fast as the
destination's max_in_flight and rate allow. With --rate 10/s they are due one
after the other. Watch them drain with: caddy relay status --watch`,
		Example: `  caddy relay redrive --source vocals --destination billing
  caddy relay redrive --source vocals --since 2h --rate 10/s
  caddy relay redrive --all`,
		Args: operands(),
	}
	s := addSelection(cmd)
	cmd.Flags().StringVar(&rate, "rate", "", "How many become due in a second, minute or hour, such as 10/s")
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error {
		selected, err := s.request()
		if err != nil {
			return err
		}
		total := 0
		if c.progress {
			if total, err = s.count(ctx, c); err != nil {
				return err
			}
		}
		raw, err := c.bulk(ctx, api.PathRedrive, api.RedriveRequest{Selection: selected, Rate: api.Rate(rate)}, "redriving", total)
		return answer(c, raw, err, func(r api.Redriven) error {
			return c.printf("%s redriven.", counted(r.Redriven, "dead letter", "dead letters"))
		})
	})
	return cmd
}
