package api

import (
	"encoding/json"
	"errors"
)

// Rate is how many deliveries a second are due: 0 is no limit. It is written as a number, or as n/s, n/m or n/h.
type Rate string

var errRate = errors.New("rate: expected a number of deliveries a second, or n/s, n/m or n/h")

// UnmarshalJSON reads a number or a text.
func (r *Rate) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*r = Rate(s)
		return nil
	}
	var n json.Number
	if json.Unmarshal(b, &n) != nil || n == "" {
		return errRate
	}
	*r = Rate(n)
	return nil
}
