//go:build !linux

package sqlitefile

// FreeBytes returns -1: the free space is unknown on this system, and SQLite's own errors say when the disk is full.
func FreeBytes(string) int64 { return -1 }
