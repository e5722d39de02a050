package command

import (
	"context"
	"errors"
	"io"

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
			if err := answer(c, raw, err, func(d api.Doctor) error { return writeDoctor(c.out, d.Checks) }); err != nil {
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

// writeDoctor writes the checks without a limit to the width, since half an advice is none.
func writeDoctor(w io.Writer, checks []api.Check) error {
	rows := make([][]string, len(checks))
	for i, check := range checks {
		rows[i] = []string{check.State, check.Name, check.Subject, check.Message}
	}
	return table(w, 0, []column{{title: "STATE"}, {title: "CHECK"}, {title: "OF"}, {title: "FOUND"}}, rows)
}
