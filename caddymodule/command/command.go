// Package command adds `caddy relay …` to Caddy's commands. It asks a running Caddy over its admin endpoint, and knows of the
// gateway no more than the types of package api.
package command

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"syscall"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Backup copies a SQLite store at a path to a new file, while another process uses it. An error that wraps fs.ErrExist is
// answered by a hint at --force, which sets overwrite.
type Backup func(ctx context.Context, path, copyTo string, overwrite bool) error

// Register adds the command to those of Caddy. It may be called once, in an init function.
func Register(backup Backup) {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "relay",
		Usage:     "<command>",
		Short:     "Shows and steers what Caddy Relay keeps and delivers",
		Long:      long,
		CobraFunc: func(cmd *cobra.Command) { configure(cmd, backup) },
	})
}

const long = `Shows and steers what Caddy Relay keeps and delivers.

A source is one kind of inbound callback, an event is an accepted callback, and
a destination is where events of a source are delivered to. A delivery that is
given up is a dead letter. To replay is to deliver an event anew; to redrive is
to replay dead letters.

The commands ask the admin endpoint of a running Caddy, which is found as by
Caddy's own commands: --address if it is set, else the endpoint of the
configuration that --config names, else localhost:2019. Gateways that share a
Redis answer alike, except that rejections, tail and doctor are about the one
that is asked.

Tables are cut to the width of the terminal, a narrow one shows fewer columns,
and in a pipe or file they are whole. Scripts had better use --json, which prints
what the admin endpoint answers.`

// configure makes the relay command of a new one.
func configure(cmd *cobra.Command, backup Backup) {
	cmd.Example = `  caddy relay status
  caddy relay events --state dead --since 2h
  caddy relay redrive --source vocals --destination billing`
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	flags := cmd.PersistentFlags()
	flags.String("address", "", "Address of Caddy's admin endpoint, as host:port or unix//path (default localhost:2019)")
	flags.StringP("config", "c", "", "Configuration file to take the address of the admin endpoint from")
	flags.StringP("adapter", "a", "", "Name of the config adapter for --config")
	flags.Bool("json", false, "Print JSON: the answer of the admin endpoint")
	commands := []*cobra.Command{
		statusCommand(), eventsCommand(), showCommand(), replayCommand(), deadLettersCommand(), redriveCommand(), discardCommand(),
		pauseCommand(), resumeCommand(), reassignCommand(), rejectionsCommand(), tasksCommand(), expectCommand(), tailCommand(), exportCommand(), sendCommand(),
		doctorCommand(), backupCommand(backup), helpCommand(),
	}
	for _, command := range commands {
		command.DisableFlagsInUseLine = true // they name their flags
	}
	cmd.AddCommand(commands...)
}

// call holds what a command needs to ask and to answer.
type call struct {
	*client
	terminal
	asJSON bool
}

// run makes the function of a command. Its context ends when somebody interrupts the command, so that a request under way is
// withdrawn.
func run(f func(ctx context.Context, c *call, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		client, err := newClient(cmd)
		if err != nil {
			return err
		}
		defer client.close()
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		asJSON, err := cmd.Flags().GetBool("json")
		if err != nil {
			return err
		}
		return f(ctx, &call{client, newTerminal(cmd), asJSON}, args)
	}
}

// answer prints what the admin endpoint answers: as it came with --json, and otherwise as show writes it.
func answer[T any](c *call, raw json.RawMessage, err error, show func(T) error) error {
	v, err := decode[T](raw, err)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.json(raw)
	}
	return show(v)
}
