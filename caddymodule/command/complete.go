package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// completeWithin bounds how long a shell waits for names.
const completeWithin = time.Second

type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// names returns the names that the status knows, for a shell that completes; none if nobody answers.
func names(cmd *cobra.Command, pick func(*api.Status) []string) ([]string, cobra.ShellCompDirective) {
	client, err := newClient(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer client.close()
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	raw, err := client.get(ctx, api.PathStatus, nil)
	status, err := decode[api.Status](raw, err)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return pick(&status), cobra.ShellCompDirectiveNoFileComp
}

func sourceNames(s *api.Status) []string {
	found := make([]string, len(s.Sources))
	for i, src := range s.Sources {
		found[i] = src.Name
	}
	return found
}

// destinationNames returns the destinations of a source, orphaned ones too; of all sources if it is empty.
func destinationNames(source string) func(*api.Status) []string {
	return func(s *api.Status) (found []string) {
		for _, d := range s.Destinations {
			if source == "" || d.Source == source {
				found = append(found, d.Name)
			}
		}
		return found
	}
}

// completeNames completes the flags --source and --destination.
func completeNames(cmd *cobra.Command) {
	// Only a flag that does not exist, or that is completed already, is an error.
	_ = cmd.RegisterFlagCompletionFunc("source", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return names(cmd, sourceNames)
	})
	_ = cmd.RegisterFlagCompletionFunc("destination", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		source, _ := cmd.Flags().GetString("source")
		return names(cmd, destinationNames(source))
	})
}

// completeDestination completes operands: a source, then destinations of it.
func completeDestination(operands int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return names(cmd, sourceNames)
		case len(args) < operands:
			return names(cmd, destinationNames(args[0]))
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}
