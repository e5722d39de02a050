package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [--source <name>] [--task-id <id>] [--state <state>] [--destination <name>] [--since <time>] [--until <time>]",
		Short: "Writes whole events as JSON, one a line",
		Long: `Writes whole events, with payload, headers and attempts, as JSON: one a line,
newest first, with the filters of caddy relay events. An export that breaks off
ends with exit status 1.`,
		Example: `  caddy relay export --source vocals --since 24h > vocals.jsonl
  caddy relay export --state dead | jq -r .task_id`,
		Args: operands(),
	}
	f := addFilter(cmd)
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error { return export(ctx, c, f.query()) })
	return cmd
}

func export(ctx context.Context, c *call, query url.Values) error {
	res, err := c.send(ctx, c.stepWithin, http.MethodGet, api.PathExport, query, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	err = copyJSON(c.out, res.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the export breaks off, since the Caddy at %s has ended it", c.address)
	}
	return err
}
