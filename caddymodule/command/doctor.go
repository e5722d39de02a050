package command

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Checks the configuration and its surroundings for common mistakes",
		Long: `Checks what is easy to get wrong: whether the public name leads here and has a
certificate, sources that are open to everyone, the clock, the disk, Redis's
eviction policy and persistence, routes that no callback reaches, and whether
each destination takes connections. No callback is sent.

Exits with status 1 if a check fails. A warning is no failure.`,
		Example: `  caddy relay doctor
  caddy relay doctor --json | jq '.checks[] | select(.state != "ok")'`,
		Args: operands(),
		RunE: run(func(ctx context.Context, c *call, _ []string) error {
			raw, err := c.get(ctx, api.PathDoctor, nil)
			failed := 0
			if err := answer(c, raw, err, func(d api.Doctor) error { return writeDoctor(c.out, c.width, d.Checks) }); err != nil {
				return err
			}
			d, err := decode[api.Doctor](raw, nil)
			if err != nil || d.OK {
				return err
			}
			for _, check := range d.Checks {
				if check.State == api.CheckError {
					failed++
				}
			}
			return errors.New(counted(failed, "check fails", "checks fail"))
		}),
	}
}

// writeDoctor writes the checks, of which none is cut, since half an advice is none. A terminal shows the advice below what
// it is about, wrapped between words.
func writeDoctor(w io.Writer, width int, checks []api.Check) error {
	if width > 0 {
		rows := make([][2]string, 0, 2*len(checks))
		for _, check := range checks {
			rows = append(rows, [2]string{check.State, strings.TrimSpace(check.Name + " " + check.Subject)}, [2]string{"", check.Message})
		}
		return fields(w, width, rows)
	}
	rows := make([][]string, len(checks))
	for i, check := range checks {
		rows[i] = []string{check.State, check.Name, check.Subject, check.Message}
	}
	return table(w, width, []column{{title: "STATE"}, {title: "CHECK"}, {title: "OF"}, {title: "FOUND"}}, rows)
}
