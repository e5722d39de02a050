package sqlitefile

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreeBytes returns the free space where a file is, -1 if it is unknown.
func FreeBytes(file string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(file), &st); err != nil {
		return -1
	}
	return int64(st.Bavail) * st.Bsize
}
