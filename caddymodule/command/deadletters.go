package command

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func deadLettersCommand() *cobra.Command {
	var source, destination string
	cmd := &cobra.Command{
		Use:   "dead-letters [--source <name>] [--destination <name>] [--since <time>] [--limit <n>]",
		Short: "Lists deliveries that were given up, newest event first",
		Long: `Lists dead letters: deliveries that were given up, newest event first, with the
last answer or error. They are kept until they are redriven, discarded, or past
dead_letter_retention.`,
		Example: `  caddy relay dead-letters
  caddy relay dead-letters --source vocals --destination billing --since 1d`,
		Args: operands(),
	}
	cmd.Flags().StringVarP(&source, "source", "s", "", "Only dead letters of this source")
	cmd.Flags().StringVarP(&destination, "destination", "d", "", "Only dead letters of this destination")
	since, limit := addTime(cmd, "since", "Only dead letters given up since then"), addLimit(cmd)
	completeNames(cmd)
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error {
		if err := checkLimit(*limit); err != nil {
			return err
		}
		q := url.Values{}
		set(q, "source", source)
		set(q, "destination", destination)
		set(q, "since", since.String())
		raw, err := c.list(ctx, api.PathDeadLetters, "dead_letters", q, *limit)
		return answer(c, raw, err, func(page api.DeadLetters) error {
			if err := writeDeadLetters(c.out, c.width, page.DeadLetters, time.Now()); err != nil {
				return err
			}
			return c.more(page.Next, "dead letters")
		})
	})
	return cmd
}

func writeDeadLetters(w io.Writer, width int, letters []api.DeadLetter, now time.Time) error {
	if len(letters) == 0 {
		_, err := io.WriteString(w, "There are no such dead letters.\n")
		return err
	}
	rows := make([][]string, len(letters))
	for i, l := range letters {
		rows[i] = []string{
			l.EventID, ago(l.DeadAt, now), l.Source, l.Destination, l.TaskID, strconv.Itoa(l.Attempts), outcome(l.LastStatus, l.LastError),
		}
	}
	return table(w, width, []column{
		{title: "EVENT", whole: true},
		{title: "GIVEN UP", whole: true},
		{title: "SOURCE"},
		{title: "DESTINATION"},
		{title: "TASK"},
		{title: "TRIES", right: true},
		{title: "LAST ANSWER"},
	}, rows)
}
