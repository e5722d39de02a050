package verifier

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// one returns the only value of a header. Several are refused: who else reads the request might take another one.
func one(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("the header %s is missing", name)
	case len(values) > 1:
		return "", fmt.Errorf("the header %s is sent more than once", name)
	default:
		return values[0], nil
	}
}

// listed returns the values of one key in a header of the form "t=1700000000,v1=abc,v1=def". Other entries are passed
// over, since senders announce new schemes by sending them beside the old ones.
func listed(header, key string) (values []string) {
	for entry := range strings.SplitSeq(header, ",") {
		if k, value, ok := strings.Cut(strings.Trim(entry, " \t"), "="); ok && k == key {
			values = append(values, value)
		}
	}
	return values
}

// fresh refuses a time, in Unix seconds, that is further than tolerance from now, before or after.
func fresh(timestamp string, now time.Time, tolerance time.Duration) error {
	for i := range len(timestamp) {
		if timestamp[i] < '0' || timestamp[i] > '9' {
			return errNoTimestamp
		}
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errNoTimestamp
	}
	switch age := now.Sub(time.Unix(seconds, 0)); {
	case age > tolerance:
		return fmt.Errorf("the callback is stale: its timestamp is older than the tolerance of %s", tolerance)
	case age < -tolerance:
		return fmt.Errorf("the timestamp is in the future by more than the tolerance of %s; compare the clocks", tolerance)
	}
	return nil
}

var (
	errNoTimestamp = errors.New("the timestamp is not in Unix seconds")
	errMismatch    = errors.New("the signature does not match")
)

func checkTolerance(tolerance *time.Duration, byDefault time.Duration) error {
	if *tolerance < 0 {
		return errors.New("the tolerance must not be negative")
	}
	if *tolerance == 0 {
		*tolerance = byDefault
	}
	return nil
}

// checkHeaderName checks the name that an option configures.
func checkHeaderName(option, name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%s: expected the name of a header, got %q", option, name)
	}
	return nil
}
