package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show <id>",
		Short: "Shows one event with every attempt, its headers and payload",
		Long: `Shows one event: every attempt of each of its deliveries with what the
destination answered, the files that its payload names with their copies in the
archive, headers and payload, and the variants: callbacks of the same key that
said something else.`,
		Example: `  caddy relay show 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB
  caddy relay show 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB --json | jq .payload`,
		Args: operands("<id>"),
		RunE: run(func(ctx context.Context, c *call, args []string) error {
			raw, err := c.get(ctx, api.EventPath(args[0]), nil)
			return answer(c, raw, err, func(e api.Event) error { return writeEvent(c.out, c.width, &e, time.Now()) })
		}),
	}
}

func writeEvent(w io.Writer, width int, e *api.Event, now time.Time) error {
	rows := [][2]string{
		{"event", e.ID},
		{"source", e.Source},
		{"task", e.TaskID},
		{"stage", e.Stage},
		{"code", e.Code},
		{"received", fmt.Sprintf("%s, %s", moment(e.ReceivedAt), ago(e.ReceivedAt, now))},
		{"origin", e.Origin},
		{"state", e.State},
	}
	if e.Duplicates > 0 {
		rows = append(rows, [2]string{"duplicates", thousands(e.Duplicates)})
	}
	if e.Conflicts > 0 {
		rows = append(rows, [2]string{"conflicts", thousands(e.Conflicts)})
	}
	if err := fields(w, width, rows); err != nil {
		return err
	}
	var b strings.Builder
	for i := range e.Deliveries {
		writeDelivery(&b, &e.Deliveries[i], now)
	}
	if e.EventDetails != nil {
		writeDetails(&b, e.EventDetails)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeDelivery(b *strings.Builder, d *api.Delivery, now time.Time) {
	fmt.Fprintf(b, "\n%s: %s", printable(d.Destination), d.State)
	if d.Replay > 0 {
		fmt.Fprintf(b, ", replayed %s", counted(d.Replay, "time", "times"))
	}
	if d.Variant > 0 {
		fmt.Fprintf(b, ", variant %d", d.Variant)
	}
	if !d.NextAttemptAt.IsZero() {
		fmt.Fprintf(b, ", next attempt in %s", span(d.NextAttemptAt.Sub(now)))
	}
	if d.Reason != "" {
		fmt.Fprintf(b, ": %s", printable(d.Reason))
	}
	b.WriteByte('\n')
	for _, a := range d.Attempts {
		fmt.Fprintf(b, "  %s  %s", moment(a.At), outcome(a.Status, a.Error))
		fmt.Fprintf(b, "  (%d ms)\n", a.DurationMS)
		if a.Response != "" {
			b.WriteString(indent(a.Response, "    "))
		}
	}
}

// outcome writes a status with an error, of which either may be missing.
func outcome(status int, err string) string {
	switch {
	case status == 0:
		return printable(err)
	case err == "":
		return strconv.Itoa(status)
	}
	return strconv.Itoa(status) + " " + printable(err)
}

func writeDetails(b *strings.Builder, d *api.EventDetails) {
	if len(d.Files) > 0 {
		b.WriteString("\nfiles\n")
		for _, f := range d.Files {
			b.WriteString(indent(f.URL, "  "))
			if f.Object != "" {
				b.WriteString(indent(fmt.Sprintf("%s, %d bytes, SHA-256 %s", f.Object, f.Size, f.SHA256), "    "))
			}
		}
	}
	writeBody(b, "headers", "payload", d.Headers, d.Payload)
	for _, v := range d.Variants {
		title := fmt.Sprintf("variant %d", v.N)
		writeBody(b, title+", "+moment(v.ReceivedAt)+", headers", title+", payload", v.Headers, v.Payload)
	}
}

func writeBody(b *strings.Builder, headers, payload string, values map[string]string, body json.RawMessage) {
	fmt.Fprintf(b, "\n%s\n", headers)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(b, "  %s: %s\n", printable(name), printable(values[name]))
	}
	fmt.Fprintf(b, "\n%s\n", payload)
	b.WriteString(indent(bodyText(body), "  "))
}

// bodyText returns a body for people: JSON indented, and a text that holds something else as it is.
func bodyText(body json.RawMessage) string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		return text
	}
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") != nil {
		return string(body)
	}
	return indented.String()
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(printableLines(text), "\n"), "\n") {
		b.WriteString(by + line + "\n")
	}
	return b.String()
}
