package command

import (
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
	since := addTime(cmd, "since", "Only dead letters given up since then")
	completeNames(cmd)
	return deadLetters.command(cmd, func() url.Values {
		q := url.Values{}
		set(q, "source", source)
		set(q, "destination", destination)
		set(q, "since", since.String())
		return q
	})
}

var deadLetters = listing[api.DeadLetter]{
	path: api.PathDeadLetters, field: "dead_letters", rows: "dead letters", none: "There are no such dead letters.",
	columns: []column{
		{title: "EVENT", whole: true},
		{title: "GIVEN UP", whole: true, spare: 3},
		{title: "SOURCE", spare: 4},
		{title: "DESTINATION", spare: 1},
		{title: "TASK", spare: 5},
		{title: "TRIES", right: true, spare: 6},
		{title: "LAST ANSWER", spare: 2},
	},
	cells: func(l *api.DeadLetter, now time.Time) []string {
		return []string{
			l.EventID, ago(l.DeadAt, now), l.Source, l.Destination, l.TaskID, strconv.Itoa(l.Attempts), outcome(l.LastStatus, l.LastError),
		}
	},
}
