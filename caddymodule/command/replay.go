package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// replayFlags are the flags of both ways to replay.
type replayFlags struct {
	destinations          []string
	variant               int
	source, taskID, state string
	since, until          *timeFlag
	rate                  string
	dryRun                bool
}

func replayCommand() *cobra.Command {
	f := &replayFlags{}
	cmd := &cobra.Command{
		Use: `replay <id> [--destination <name>]... [--variant <n>]
  caddy relay replay --source <name> [--destination <name>] [--task-id <id>] [--state <state>] [--since <time>] [--until <time>] [--rate <n>/<s|m|h>] [--dry-run]`,
		Short: "Delivers an event anew, or all events that match",
		Long: `Delivers an event anew, or all events that match. Deliveries that are settled, that
is delivered or given up, are due again with a fresh retry budget. Those that are
not settled are skipped. Consumers get the same webhook-id again.

With an id, the deliveries of one event are replayed: to all destinations that it
has, or to those that --destination names. --variant sends the body of a callback
of the same key that said something else; caddy relay show lists them.

Without an id, the events that match the flags are replayed: --source and at
least one more are needed. A destination that is newer than the events gets them
if --destination names it. --rate spaces the deliveries, and --dry-run only
counts them.`,
		Example: `  caddy relay replay 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB
  caddy relay replay 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB --destination billing --variant 2
  caddy relay replay --source vocals --since 2h --dry-run
  caddy relay replay --source vocals --destination search --since 3d --rate 20/s`,
		Args: cobra.MaximumNArgs(1),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			if len(args) == 1 {
				return f.replayOne(ctx, c, args[0])
			}
			return f.replayMany(ctx, c)
		}),
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.destinations, "destination", "d", nil, "Only deliveries to this destination; repeatable with an id")
	flags.IntVar(&f.variant, "variant", 0, "Number of the variant to send (default: the first body)")
	flags.StringVarP(&f.source, "source", "s", "", "Events of this source")
	flags.StringVar(&f.taskID, "task-id", "", "Events of this task")
	flags.StringVar(&f.state, "state", "", "Events that are pending, delivered or dead")
	f.since = addTime(cmd, "since", "Events received since then")
	f.until = addTime(cmd, "until", "Events received before then")
	flags.StringVar(&f.rate, "rate", "", "How many become due in a second, minute or hour, such as 10/s")
	flags.BoolVar(&f.dryRun, "dry-run", false, "Count what would be replayed, and replay nothing")
	completeNames(cmd)
	return cmd
}

func (f *replayFlags) replayOne(ctx context.Context, c *call, id string) error {
	if f.source != "" || f.narrowed() || f.rate != "" || f.dryRun {
		return errors.New("expected only --destination and --variant with an id")
	}
	raw, err := c.post(ctx, api.ReplayPath(id), api.ReplayEventRequest{Destinations: f.destinations, Variant: f.variant})
	return answer(c, raw, err, func(r api.Replayed) error { return c.printf("%s", replayed(r, false)) })
}

func (f *replayFlags) replayMany(ctx context.Context, c *call) error {
	switch {
	case f.source == "":
		return errors.New("expected an id, or --source and a flag that narrows it down")
	case !f.narrowed() && len(f.destinations) == 0:
		return errors.New("expected --destination, --task-id, --state, --since or --until besides --source")
	case len(f.destinations) > 1:
		return errors.New("expected one --destination, unless an id is given")
	case f.variant != 0:
		return errors.New("expected --variant only with an id")
	}
	request := api.ReplayRequest{
		Source: f.source, TaskID: f.taskID, State: f.state, Since: f.since.String(), Until: f.until.String(),
		Rate: api.Rate(f.rate), DryRun: f.dryRun,
	}
	if len(f.destinations) == 1 {
		request.Destination = f.destinations[0]
	}
	total := 0
	if c.progress && !f.dryRun {
		counting := request
		counting.DryRun = true
		raw, err := c.bulk(ctx, api.PathReplay, counting, "counting", 0)
		count, err := decode[api.Replayed](raw, err)
		if err != nil {
			return err
		}
		total = count.Replayed
	}
	label := "replaying"
	if f.dryRun {
		label = "counting"
	}
	raw, err := c.bulk(ctx, api.PathReplay, request, label, total)
	return answer(c, raw, err, func(r api.Replayed) error { return c.printf("%s", replayed(r, f.dryRun)) })
}

// narrowed reports whether a flag selects some of a source's events.
func (f *replayFlags) narrowed() bool {
	return f.taskID != "" || f.state != "" || !f.since.time.IsZero() || !f.until.time.IsZero()
}

func replayed(r api.Replayed, dryRun bool) string {
	text := counted(r.Replayed, "delivery", "deliveries") + " replayed"
	if dryRun {
		text = counted(r.Replayed, "delivery", "deliveries") + " would be replayed"
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %s skipped", thousands(r.Skipped))
	}
	return text + "."
}
