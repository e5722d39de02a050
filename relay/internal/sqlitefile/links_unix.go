//go:build unix

package sqlitefile

import (
	"os"

	"golang.org/x/sys/unix"
)

// linksAndSize returns how many names an open file has, and its length.
func linksAndSize(f *os.File) (links uint64, size int64, err error) {
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	return uint64(st.Nlink), st.Size, err //nolint:unconvert // its type differs by platform
}
