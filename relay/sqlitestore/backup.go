package sqlitestore

import (
	"context"

	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// Backup copies the store at a path to a new file with mode 0600, while another process of the same host uses it: it needs
// no lock, only the right to read the store's folder. The copy holds what was answered before Backup was called, and can be
// opened as a store. An existing file is replaced only with overwrite; without it the error wraps fs.ErrExist.
//
// The gateway goes on writing meanwhile, but cannot empty its log until the copy is done.
func Backup(ctx context.Context, path, copyTo string, overwrite bool) error {
	return sqlitefile.Backup(ctx, "store", applicationID, path, copyTo, overwrite)
}
