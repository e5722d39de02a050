package relay

import "strings"

// Sentence returns an error as senders and operators read it: one sentence with a capital and a full stop.
func Sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
