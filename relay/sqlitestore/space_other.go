//go:build !linux

package sqlitestore

// freeBytes is not told on this system: SQLite's own errors say when the disk is full.
func freeBytes(string) int64 { return -1 }
