package verifier

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// one gives the only value of a header. Several are refused: who else reads the request might take another one.
func one(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("the header %s is missing", name)
	case len(values) > 1:
		return "", fmt.Errorf("the header %s stands more than once", name)
	default:
		return values[0], nil
	}
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
		return errors.New("the timestamp is too old")
	case age < -tolerance:
		return errors.New("the timestamp is in the future")
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
