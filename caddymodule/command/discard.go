package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func discardCommand() *cobra.Command {
	var orphaned, yes bool
	cmd := &cobra.Command{
		Use:   "discard [--source <name>] [--destination <name>] [--since <time>] [--until <time>] [--orphaned] [--yes] | --all",
		Short: "Deletes dead letters, after a question",
		Long: `Deletes the dead letters that are selected. They are counted first, and the
command asks before it deletes them, unless --yes is given. What is given up after
they were counted, or within the second before, stays. The flags are combined, and
at least one is needed; --all selects every dead letter of every source. Their
events stay until their retention ends.

With --orphaned, deliveries that wait for destinations which are no longer
configured are deleted too, and so is what is given up while the command asks. To
keep those, hand them to another destination with caddy relay reassign. Neither is
done while gateways that share a Redis are configured differently.`,
		Example: `  caddy relay discard --source vocals --destination billing --until 7d
  caddy relay discard --source vocals --destination old-name --orphaned`,
		Args: operands(),
	}
	s := addSelection(cmd)
	cmd.Flags().BoolVar(&orphaned, "orphaned", false, "Also deliveries that wait for destinations which are no longer configured")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Do not ask")
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error { return s.discard(ctx, c, orphaned, yes) })
	return cmd
}

// discard counts what is selected, asks unless yes, and deletes what was counted. A selection that has no end gets one before
// the count, since what dies while somebody reads the question was not asked about; orphaned deliveries go with no end.
func (s *selection) discard(ctx context.Context, c *call, orphaned, yes bool) error {
	if _, err := s.request(); err != nil {
		return err
	}
	if orphaned && s.bounded() {
		return errors.New("expected --orphaned without --since and --until, which are about when dead letters were given up")
	}
	var start time.Time
	if !yes && !orphaned {
		var err error
		if start, err = c.clock(ctx); err != nil {
			return err
		}
	}
	total, what, err := s.discardable(ctx, c, orphaned)
	if err != nil {
		return err
	}
	if !yes && total > 0 {
		if err := c.confirm(fmt.Sprintf("Delete %s for good?", what)); err != nil {
			return err
		}
	}
	if !start.IsZero() {
		s.endAt(start)
	}
	selected, err := s.request()
	if err != nil {
		return err
	}
	raw, err := c.bulk(ctx, api.PathDiscard, api.DiscardRequest{Selection: selected, Orphaned: orphaned}, "discarding", total)
	return answer(c, raw, err, func(d api.Discarded) error {
		return c.printf("%s discarded.", counted(d.Discarded, "delivery", "deliveries"))
	})
}

// discardable counts what would be deleted, and says what it is.
func (s *selection) discardable(ctx context.Context, c *call, orphaned bool) (total int, what string, err error) {
	if total, err = s.count(ctx, c); err != nil {
		return 0, "", err
	}
	what = counted(total, "dead letter", "dead letters")
	if !orphaned {
		return total, what, nil
	}
	status, err := c.status(ctx)
	if err != nil {
		return 0, "", err
	}
	waiting := 0
	for _, d := range status.Destinations {
		if s.matches(&d) {
			waiting += int(d.Counts.Orphaned)
		}
	}
	return total + waiting, what + " and " + counted(waiting, "orphaned delivery", "orphaned deliveries"), nil
}
