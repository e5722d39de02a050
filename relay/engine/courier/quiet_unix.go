//go:build unix

package courier

import "syscall"

// nothingToRead reports whether a socket is open and has received nothing. It reads nothing and does not wait.
func nothingToRead(c syscall.RawConn) bool {
	quiet := false
	var b [1]byte
	err := c.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
	})
	return err == nil && quiet
}
