package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// watchEvery is how often --watch asks.
const watchEvery = 2 * time.Second

func statusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [--watch]",
		Short: "Shows the store, the spool, and the deliveries of each destination by state",
		Long: `Shows the store, the spool, the gateways that share the store, the sources, and
the deliveries of each destination by state.

A destination is active, held (its breaker is open since it keeps failing),
paused (by an operator), or orphaned (no longer configured, while deliveries
for it are left). WAITING counts its deliveries that are not settled and not in
flight, and OLDEST is how long ago the oldest of them was accepted. CLIENT
names the sender of the requests: lean, for HTTP/1.1 without a proxy or special
options of the transport, or caddy, for Caddy's own transport.

With --watch the answer is shown anew every two seconds, until interrupted.`,
		Example: `  caddy relay status
  caddy relay status --watch
  caddy relay status --json | jq '.destinations[] | select(.counts.dead > 0)'`,
		Args: operands(),
		RunE: run(func(ctx context.Context, c *call, _ []string) error {
			if watch {
				return watchStatus(ctx, c, watchEvery)
			}
			return showStatus(ctx, c)
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "Show the status anew every two seconds")
	return cmd
}

func showStatus(ctx context.Context, c *call) error {
	raw, err := c.get(ctx, api.PathStatus, nil)
	return answer(c, raw, err, func(s api.Status) error { return writeStatus(c.out, c.width, &s) })
}

// watchStatus shows the status again and again, until the context ends. A gateway that is away for a while is waited for, but
// not one that was never there.
func watchStatus(ctx context.Context, c *call, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for first := true; ; first = false {
		raw, err := c.get(ctx, api.PathStatus, nil)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		}
		if err := c.frame(first, raw, err); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// frame writes one of the answers that follow each other: in place of the last one on a terminal, and below it elsewhere.
func (c *call) frame(first bool, raw json.RawMessage, err error) error {
	if c.asJSON {
		if raw == nil {
			return nil // a line for each answer, and nothing else
		}
		return c.json(raw)
	}
	switch {
	case c.width > 0:
		if _, err := io.WriteString(c.out, "\x1b[H\x1b[2J"); err != nil {
			return err
		}
	case !first:
		if err := c.printf(""); err != nil {
			return err
		}
	}
	s, err := decode[api.Status](raw, err)
	if err != nil {
		return c.printf("%s", printable(err.Error()))
	}
	return writeStatus(c.out, c.width, &s)
}

func writeStatus(w io.Writer, width int, s *api.Status) error {
	rows := [][2]string{{"store", storeLine(&s.Store)}}
	if s.Spool != nil {
		rows = append(rows, [2]string{"spool", spoolLine(s.Spool)})
	}
	nodes := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		nodes[i] = fmt.Sprintf("%s (process %d)", n.Name, n.PID)
	}
	rows = append(rows, [2]string{"gateways", strings.Join(nodes, ", ")})
	if s.Drift {
		rows = append(rows, [2]string{"", "they are configured differently: reload those with the old configuration"})
	}
	sources := make([]string, len(s.Sources))
	for i, src := range s.Sources {
		sources[i] = src.Name
		if src.Open {
			sources[i] += " (open to everyone)"
		}
		if t := src.Tasks; t != nil && !s.Store.Unread {
			sources[i] += fmt.Sprintf(" (%s expected, %s overdue)", counted(t.Expected, "task", "tasks"), thousands(t.Overdue))
		}
	}
	rows = append(rows, [2]string{"sources", strings.Join(sources, ", ")})
	if err := fields(w, width, rows); err != nil {
		return err
	}
	if len(s.Destinations) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	cells := make([][]string, len(s.Destinations))
	for i := range s.Destinations {
		cells[i] = destinationRow(&s.Destinations[i], !s.Store.Unread)
	}
	return table(w, width, []column{
		{title: "SOURCE", spare: 1},
		{title: "DESTINATION"},
		{title: "STATE"},
		{title: "WAITING", right: true},
		{title: "IN FLIGHT", right: true, spare: 4},
		{title: "DELIVERED", right: true, spare: 3},
		{title: "DEAD", right: true},
		{title: "OLDEST", right: true, spare: 2},
		{title: "CLIENT", spare: 5},
	}, cells)
}

// destinationRow returns the cells of a destination, with a dash for each count where none is known.
func destinationRow(d *api.DestinationStatus, counted bool) []string {
	if !counted {
		return []string{d.Source, d.Name, d.State, "-", "-", "-", "-", "-", d.Client}
	}
	n := d.Counts
	oldest := ""
	if n.Pending+n.InFlight+n.Held+n.Paused+n.Orphaned > 0 {
		oldest = span(seconds(d.OldestPendingSeconds))
	}
	return []string{
		d.Source, d.Name, d.State, thousands(n.Pending + n.Held + n.Paused + n.Orphaned), thousands(n.InFlight),
		thousands(n.Delivered), thousands(n.Dead), oldest, d.Client,
	}
}

func storeLine(s *api.StoreStatus) string {
	line := strings.TrimSpace(s.Driver + " " + s.Location)
	switch {
	case !s.Up && s.Unread:
		return line + ", not open yet: " + s.Error
	case !s.Up:
		return line + ", away: " + s.Error
	}
	line += ", up" + free(s.FreeBytes)
	if p := s.EvictionPolicy; p != "" && p != "noeviction" && p != "unknown" {
		line += ", loses data at maxmemory (" + p + ")"
	}
	return line
}

func spoolLine(s *api.SpoolStatus) string {
	if !s.Up {
		return strings.TrimPrefix(s.Location+", away: "+s.Error, ", ") // one that was never open has no location
	}
	if s.Events+s.Stuck == 0 {
		return s.Location + ", empty" + free(s.FreeBytes)
	}
	line := fmt.Sprintf("%s, %s, %s, the oldest %s old", s.Location, counted(s.Events, "callback", "callbacks"),
		humanize.IBytes(uint64(max(s.Bytes, 0))), span(seconds(s.OldestSeconds)))
	if s.Stuck > 0 {
		line += fmt.Sprintf(", and %s that the store refuses", thousands(s.Stuck))
	}
	return line + free(s.FreeBytes)
}

// free returns the room on a disk as a part of a line; nothing where it is unknown.
func free(n int64) string {
	if n < 0 {
		return ""
	}
	return ", " + humanize.IBytes(uint64(n)) + " free"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// fieldsIndent is where the values of fields begin.
const fieldsIndent = 12

// fields writes names with their values, each on a line that is wrapped between words at width.
func fields(w io.Writer, width int, rows [][2]string) error {
	var b strings.Builder
	for _, row := range rows {
		value := wrap(printable(row[1]), fieldsIndent, width)
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", fieldsIndent, row[0], value), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
