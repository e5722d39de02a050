package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func sendCommand() *cobra.Command {
	var contentType string
	var headers []string
	cmd := &cobra.Command{
		Use:   "send <source> [<file>] [--content-type <type>] [--header <name>:<value>]...",
		Short: "Sends a sample callback, or a given one, through a source's own door",
		Long: `Sends a callback to a source as its provider would: a sample, or the content of a
file (- is the standard input), byte for byte. It is read and checked as any other
and delivered to the source's destinations; only its address and signature are
not asked for, since an operator sends it. A sample names no files if the
source has an archive, since nobody serves them.

Exits with status 1 if the source does not accept it.`,
		Example: `  caddy relay send vocals
  caddy relay send vocals callback.json
  caddy relay send github - --header X-GitHub-Delivery:7 < push.json`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return names(cmd, sourceNames)
			}
			return nil, cobra.ShellCompDirectiveDefault // files
		},
	}
	cmd.Flags().StringVar(&contentType, "content-type", "", "Content-Type of the callback (default: what the source expects)")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "A header of the callback, as name:value; repeatable")
	cmd.RunE = run(func(ctx context.Context, c *call, args []string) error {
		request := api.SendRequest{Source: args[0], ContentType: contentType}
		var err error
		if request.Headers, err = parseHeaders(headers); err != nil {
			return err
		}
		if len(args) == 2 {
			if request.Body, err = readCallback(c.in, args[1]); err != nil {
				return err
			}
		}
		raw, err := c.post(ctx, api.PathSend, request)
		sent, err := decode[api.Sent](raw, err)
		if err != nil {
			return err
		}
		if c.asJSON {
			err = c.json(raw)
		} else {
			err = writeSent(c, &sent)
		}
		if err == nil && sent.Status/100 != 2 {
			err = fmt.Errorf("the source %s answers %d %s", args[0], sent.Status, http.StatusText(sent.Status))
		}
		return err
	})
	return cmd
}

func writeSent(c *call, sent *api.Sent) error {
	switch {
	case sent.EventID == "":
		return c.printf("%s", printable(sent.Body))
	case sent.Duplicate:
		return c.printf("A duplicate of event %s. Look at it: caddy relay show %[1]s", sent.EventID)
	}
	return c.printf("Accepted as event %s. Look at it: caddy relay show %[1]s", sent.EventID)
}

// parseHeaders reads name:value.
func parseHeaders(flags []string) (map[string]string, error) {
	headers := map[string]string{}
	for _, flag := range flags {
		name, value, ok := strings.Cut(flag, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("--header %q: expected name:value", flag)
		}
		headers[name] = strings.TrimSpace(value)
	}
	return headers, nil
}

// readCallback returns the content of a file as a text within JSON, which keeps every byte of it. JSON put there as it is
// would lose its white space.
func readCallback(stdin io.Reader, file string) (json.RawMessage, error) {
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(stdin) }
	}
	content, err := read()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the callback: %w", err)
	case len(content) == 0:
		return nil, errors.New("reading the callback: there is nothing in it")
	case !utf8.Valid(content):
		return nil, errors.New("the callback is no text in UTF-8, and only text can be sent this way: post it to the source with curl --data-binary")
	}
	return json.Marshal(string(content))
}
