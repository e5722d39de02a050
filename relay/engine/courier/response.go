package courier

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	keptBody      = 4 << 10  // bytes of a response that are stored
	drainedBody   = 64 << 10 // bytes that are read, so that the connection can be used again
	bodyWithin    = 2 * time.Second
	maxRetryAfter = time.Hour
)

// readBody returns the beginning of a response's body, and reads on to its end so far as that is worth a connection.
func readBody(body io.Reader) ([]byte, error) {
	kept, err := io.ReadAll(io.LimitReader(body, keptBody))
	if err == nil && len(kept) == keptBody {
		_, err = io.CopyN(io.Discard, body, drainedBody-keptBody)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if len(kept) == 0 {
		kept = nil
	}
	return kept, err
}

// retryAfter reads the header as RFC 9110, section 10.2.3, defines it: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // too many digits are read as the largest number
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
