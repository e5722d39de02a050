package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func backupCommand(backup Backup) *cobra.Command {
	var store string
	var force bool
	cmd := &cobra.Command{
		Use:   "backup <file> [--store <path>] [--force]",
		Short: "Copies a SQLite store while the gateway uses it",
		Long: `Copies a SQLite store to a file while the gateway uses it. The copy is one state
of the store, holds everything that was answered before, and can be put in the
place of relay.db of a gateway that is stopped.

The copy is made by this command and not by the gateway, so that it must run on
the gateway's host, as a user who may read the store: root, or the user that
Caddy runs as. The path of the store is taken from the gateway's status, unless
--store names it. The copy can be read by this user alone (0600).

The copy needs as much space as the store, and the gateway's log of changes grows
while it is made: take it to another disk if there is little left on this one.
With --json, the paths of both and the size of the copy in bytes are printed.
Redis is backed up by Redis's own means.`,
		Example: `  sudo caddy relay backup /var/backups/relay.db
  caddy relay backup --store /var/lib/caddy/.local/share/caddy/relay/relay.db relay.db`,
		Args: operands("<file>"),
	}
	cmd.Flags().StringVar(&store, "store", "", "Path of the store (default: asked of the gateway)")
	cmd.Flags().BoolVar(&force, "force", false, "Replace the file if there is one")
	cmd.RunE = run(func(ctx context.Context, c *call, args []string) error {
		path := store
		if path == "" {
			var err error
			if path, err = c.storePath(ctx); err != nil {
				return err
			}
		}
		if err := backup(ctx, path, args[0], force); err != nil {
			if errors.Is(err, fs.ErrExist) {
				err = fmt.Errorf("%w; name another file, or replace this one with --force", err)
			}
			return err
		}
		info, err := os.Stat(args[0])
		if err != nil {
			return err
		}
		if c.asJSON {
			raw, err := json.Marshal(backedUp{Store: path, Path: args[0], Bytes: info.Size()})
			if err != nil {
				return err
			}
			return c.json(raw)
		}
		return c.printf("%s copied to %s (%s).", path, args[0], humanize.IBytes(uint64(info.Size())))
	})
	return cmd
}

// backedUp describes a backup, for scripts.
type backedUp struct {
	Store string `json:"store"` // what was copied
	Path  string `json:"path"`  // of the copy
	Bytes int64  `json:"bytes"`
}

// storePath asks for the path of the store.
func (c *call) storePath(ctx context.Context) (string, error) {
	status, err := c.status(ctx)
	switch {
	case err != nil:
		return "", err
	case status.Store.Driver == "":
		return "", errors.New("the store is not open, so that its path is not known: name it with --store")
	case status.Store.Driver != "sqlite":
		return "", fmt.Errorf("only a SQLite store can be copied this way, and this one is %s: use its own means", status.Store.Driver)
	case !filepath.IsAbs(status.Store.Location):
		return "", fmt.Errorf("the path of the store, %s, is relative to where Caddy was started: name it with --store", status.Store.Location)
	}
	return status.Store.Location, nil
}
