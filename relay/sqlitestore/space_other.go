//go:build !linux

package sqlitestore

func refuseNetworkFilesystem(string) error { return nil }

// freeBytes is not told on this system: SQLite's own errors say when the disk is full.
func freeBytes(string) int64 { return -1 }
