//go:build !unix

package sqlitefile

import "os"

// linksAndSize returns the length of an open file, which keeps its name on this system while it is open.
func linksAndSize(f *os.File) (links uint64, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return 1, info.Size(), nil
}
