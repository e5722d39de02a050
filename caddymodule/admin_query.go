package caddymodule

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultLimit = 50
	maxLimit     = 500
)

// query reads the parameters of a list. The first one that is wrong counts.
type query struct {
	values url.Values
	err    error
}

// parseQuery refuses parameters that are unknown or repeated: a misspelt filter would show everything.
func parseQuery(r *http.Request, known ...string) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.err = badRequest("The query cannot be read: " + err.Error() + ".")
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			q.err = badRequest(fmt.Sprintf("Unknown parameter %q: expected %s.", name, cmp.Or(strings.Join(known, ", "), "none")))
		} else if len(v) > 1 {
			q.err = badRequest(name + " is repeated: expected it once.")
		}
	}
	return q
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) oneOf(name string, allowed ...string) string {
	s := q.values.Get(name)
	if s != "" && !slices.Contains(allowed, s) {
		q.err = badRequest(fmt.Sprintf("%s: expected one of %s.", name, strings.Join(allowed, ", ")))
	}
	return s
}

// limit is how many rows a page has, maxLimit at most.
func (q *query) limit() int {
	if q.values.Get("limit") == "" {
		return defaultLimit
	}
	return min(q.number("limit"), maxLimit)
}

// number is a parameter that must be there, and at least 1.
func (q *query) number(name string) int {
	n, err := strconv.Atoi(q.values.Get(name))
	if err != nil || n < 1 {
		q.err = badRequest(name + ": expected a number of at least 1.")
	}
	return n
}

func (q *query) time(name string) time.Time {
	t, err := parseTime(name, q.values.Get(name))
	if err != nil {
		q.err = err
	}
	return t
}

// parseTime reads RFC 3339. An empty text is the zero time.
func parseTime(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, badTime(name)
	}
	return t, nil
}

func badTime(name string) error {
	return badRequest(name + ": expected a time such as 2026-01-31T12:00:00Z.")
}
