package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// listing is a list of the admin API, and how its rows are shown.
type listing[T any] struct {
	path    string
	field   string // of the answer, which holds the rows
	rows    string // what people call them
	none    string // written where there are no rows
	columns []column
	cells   func(row *T, now time.Time) []string
}

// command adds the flag of how many rows are shown to a command, and has it show what query selects.
func (l *listing[T]) command(cmd *cobra.Command, query func() url.Values) *cobra.Command {
	limit := cmd.Flags().IntP("limit", "n", defaultRows, "Show at most so many")
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error {
		if *limit < 1 {
			return errors.New("--limit: expected a number of at least 1")
		}
		raw, err := c.list(ctx, l.path, l.field, query(), *limit)
		return answer(c, raw, err, func(page map[string]json.RawMessage) error {
			rows, err := decode[[]T](page[l.field], nil)
			if err != nil {
				return err
			}
			if err := l.write(c.out, c.width, rows, time.Now()); err != nil {
				return err
			}
			if string(page["next"]) == `""` {
				return nil
			}
			return c.note("There are more %s: raise --limit, or narrow the filters.", l.rows)
		})
	})
	return cmd
}

func (l *listing[T]) write(w io.Writer, width int, rows []T, now time.Time) error {
	if len(rows) == 0 {
		_, err := io.WriteString(w, l.none+"\n")
		return err
	}
	cells := make([][]string, len(rows))
	for i := range rows {
		cells[i] = l.cells(&rows[i], now)
	}
	return table(w, width, l.columns, cells)
}
