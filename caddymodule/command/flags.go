package command

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// timeFlag is a flag that is a time: RFC 3339, or a duration back from now.
type timeFlag struct {
	time time.Time // zero where the flag is not set
	now  func() time.Time
}

// addTime adds the flag.
func addTime(cmd *cobra.Command, name, usage string) *timeFlag {
	f := &timeFlag{now: time.Now}
	cmd.Flags().Var(f, name, usage+", as a duration back from now (90m, 2h, 3d) or an RFC 3339 time")
	return f
}

// Set reads a value.
func (f *timeFlag) Set(value string) error {
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		f.time = t
		return nil
	}
	d, err := caddy.ParseDuration(value)
	if err != nil || d < 0 {
		return errors.New("expected a duration such as 90m, 2h or 3d, or a time such as 2026-01-31T12:00:00Z")
	}
	f.time = f.now().Add(-d)
	return nil
}

// String returns the time as the admin API reads it; nothing where the flag is not set.
func (f *timeFlag) String() string {
	if f.time.IsZero() {
		return ""
	}
	return f.time.UTC().Format(time.RFC3339Nano)
}

// Type returns what help texts call a value.
func (f *timeFlag) Type() string { return "time" }

// operands accepts exactly the named operands.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		expected := "no operands"
		if len(names) > 0 {
			expected = strings.Join(names, " ")
		}
		return fmt.Errorf("expected %s, got %d; see '%s --help'", expected, len(args), cmd.CommandPath())
	}
}
