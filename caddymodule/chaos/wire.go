package chaos

import (
	"net"
	"sync"
)

// wires is a listener whose connections can fall silent, as if the way to the other side swallowed everything: those that are
// open stay so, and nobody reads or writes them any more.
type wires struct {
	net.Listener

	mu     sync.Mutex
	silent chan struct{} // closed when the connections that were opened before fall silent
}

func newWires(l net.Listener) *wires { return &wires{Listener: l, silent: make(chan struct{})} }

// silence has all connections fall silent that are open.
func (l *wires) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.silent)
	l.silent = make(chan struct{})
}

// Accept waits for a connection.
func (l *wires) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &wire{Conn: conn, silent: l.silent, closed: make(chan struct{})}
	w.close = sync.OnceFunc(func() { close(w.closed) })
	return w, nil
}

// wire is one of their connections.
type wire struct {
	net.Conn

	silent <-chan struct{}
	closed chan struct{}
	close  func()
}

// Read reads, until it is silent: then it waits until the connection is closed.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	select {
	case <-w.silent:
		<-w.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

// Write writes, until it is silent: then it waits until the connection is closed.
func (w *wire) Write(p []byte) (int, error) {
	select {
	case <-w.silent:
		<-w.closed
		return 0, net.ErrClosed
	default:
		return w.Conn.Write(p)
	}
}

// Close closes the connection.
func (w *wire) Close() error {
	w.close()
	return w.Conn.Close()
}
