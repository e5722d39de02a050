package redisstore

import (
	"regexp"
	"slices"
	"strings"
)

// reasons are the errors of several steps. Their text has each reason once, since partitions, masters and loops mostly fail for
// the same one.
type reasons struct{ errs []error }

// join returns errors as one, and nil if there is none, as errors.Join does.
func join(errs ...error) error {
	r := new(reasons)
	for _, err := range errs {
		if more, ok := err.(*reasons); ok { //nolint:errorlint // what wraps them has words of its own
			r.errs = append(r.errs, more.errs...)
		} else if err != nil {
			r.errs = append(r.errs, err)
		}
	}
	if len(r.errs) == 0 {
		return nil
	}
	return r
}

// ownPort is the gateway's side of a connection, which is another one at each try.
var ownPort = regexp.MustCompile(`\S+->`)

func (r *reasons) Error() string {
	var texts []string
	for _, err := range r.errs {
		if text := ownPort.ReplaceAllString(err.Error(), ""); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	// Of one reason the plain text says enough; another one names what it kept a step from besides.
	said := slices.Clone(texts)
	texts = slices.DeleteFunc(texts, func(text string) bool {
		return slices.ContainsFunc(said, func(plain string) bool { return plain != text && strings.HasSuffix(text, plain) })
	})
	return strings.Join(texts, "; ")
}

func (r *reasons) Unwrap() []error { return r.errs }
