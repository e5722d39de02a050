package archive

import "golang.org/x/sys/unix"

// freePercent returns how much of the disk of a folder is free.
func freePercent(folder string) (percent float64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil || st.Blocks == 0 {
		return 0, false
	}
	return 100 * float64(st.Bavail) / float64(st.Blocks), true
}
