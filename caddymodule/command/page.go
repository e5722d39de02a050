package command

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"strconv"
)

const (
	defaultRows = 50
	// pageSize is the most rows that the admin API hands out at once.
	pageSize = 500
)

// list reads the first rows of a list, across its pages, of which some are empty though more rows follow. With --json it
// returns them as one page would have had them, next included.
func (c *client) list(ctx context.Context, path, field string, query url.Values, rows int) (json.RawMessage, error) {
	all, next := []json.RawMessage{}, ""
	for len(all) < rows {
		page, cursor, err := c.page(ctx, path, field, query, min(rows-len(all), pageSize), next)
		if err != nil {
			return nil, err
		}
		all, next = append(all, page...), cursor
		if next == "" {
			break
		}
	}
	return json.Marshal(map[string]any{field: all, "next": next})
}

func (c *client) page(ctx context.Context, path, field string, query url.Values, limit int, cursor string) (rows []json.RawMessage, next string, err error) {
	asked := url.Values{"limit": {strconv.Itoa(limit)}}
	maps.Copy(asked, query)
	if cursor != "" {
		asked.Set("cursor", cursor)
	}
	raw, err := c.get(ctx, path, asked)
	page, err := decode[map[string]json.RawMessage](raw, err)
	if err != nil {
		return nil, "", err
	}
	if rows, err = decode[[]json.RawMessage](page[field], nil); err != nil {
		return nil, "", err
	}
	next, err = decode[string](page["next"], nil)
	return rows, next, err
}

// set puts a parameter into a query, unless it is empty.
func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}
