package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpCommand returns `caddy relay help`: cobra has one for the whole of Caddy alone.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [<command>]",
		Short:   "Explains a command",
		Example: `  caddy relay help events`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (found []string, _ cobra.ShellCompDirective) {
			if about, rest, err := cmd.Parent().Find(args); err == nil && len(rest) == 0 {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() {
						found = append(found, c.Name()+"\t"+c.Short)
					}
				}
			}
			return found, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Parent().Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q; see '%s --help'", strings.Join(args, " "), cmd.Parent().CommandPath())
			}
			about.InitDefaultHelpFlag() // cobra adds it where a command is run
			return about.Help()
		},
	}
}
