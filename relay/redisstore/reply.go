package redisstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// malformed is the error of a reply that nothing of ours returns: something answers in Redis's stead (a proxy, another
// version). It is an outage, since nobody knows what was done.
func malformed(what string, reply any) error {
	shown := "nothing"
	switch reply := reply.(type) {
	case nil:
	case []any: // it may hold a payload
		kinds := make([]string, min(8, len(reply)))
		for i := range kinds {
			if kinds[i] = "nothing"; reply[i] != nil {
				kinds[i] = fmt.Sprintf("%T", reply[i])
			}
		}
		shown = fmt.Sprintf("%d values (%s)", len(reply), strings.Join(kinds, ", "))
	default:
		shown = fmt.Sprintf("%.80q", fmt.Sprint(reply))
	}
	return fmt.Errorf("%w: redis: unexpected reply to %s: %s", relay.ErrUnavailable, what, shown)
}

// reply reads the values that a script has returned, one after the other. After the first one that is not of the form
// that the script returns, err is set and zero values are read.
type reply struct {
	script string
	whole  any
	rest   []any
	err    error
}

// read begins to read what the call's script has returned.
func (c *call) read() *reply { return readReply(c.script.name, c.reply) }

// readReply begins to read a list that a script has returned, or that is in what it has returned.
func readReply(script string, value any) *reply {
	list, ok := value.([]any)
	r := &reply{script: script, whole: value, rest: list}
	if !ok {
		r.fail()
	}
	return r
}

func (r *reply) fail() {
	if r.err == nil {
		r.err = malformed(r.script, r.whole)
	}
	r.rest = nil
}

func next[T any](r *reply) (value T) {
	if len(r.rest) == 0 {
		r.fail()
		return value
	}
	value, ok := r.rest[0].(T)
	if r.rest = r.rest[1:]; !ok {
		r.fail()
	}
	return value
}

func (r *reply) number() int64 { return next[int64](r) }
func (r *reply) text() string  { return next[string](r) }

// digits reads a number that is written in digits.
func (r *reply) digits() int64 { return r.parse(r.text()) }

// twoDigits reads two numbers that are written in digits, with a space between them.
func (r *reply) twoDigits() (a, b int64) {
	first, second, _ := strings.Cut(r.text(), " ")
	return r.parse(first), r.parse(second)
}

func (r *reply) parse(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		r.fail()
	}
	return n
}

// numbers reads so many numbers.
func (r *reply) numbers(n int) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = r.number()
	}
	return list
}

// texts reads a list of strings.
func (r *reply) texts() []string {
	values := next[[]any](r)
	list := make([]string, len(values))
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			r.fail()
		}
		list[i] = text
	}
	return list
}

// groups returns how many groups of so many values are left.
func (r *reply) groups(width int) int {
	if len(r.rest)%width != 0 {
		r.fail()
	}
	return len(r.rest) / width
}

// done returns an error unless everything was read and of the right form.
func (r *reply) done() error {
	if len(r.rest) > 0 {
		r.fail()
	}
	return r.err
}

// count returns the number that is all a script returns.
func (c *call) count() (int, error) {
	n, ok := c.reply.(int64)
	if !ok {
		return 0, malformed(c.script.name, c.reply)
	}
	return int(n), nil
}

// fields returns the n values that HMGET has read.
func fields(cmd *redis.SliceCmd, n int) ([]any, error) {
	values, err := cmd.Result()
	if err != nil {
		return nil, explain(err)
	}
	if len(values) != n {
		return nil, malformed("HMGET", values)
	}
	return values, nil
}
