package redistest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
)

// Where somebody else has the port, though a Redis answers there, a server gets another one.
func TestATakenPort(t *testing.T) {
	other := Start(t)
	_, port, err := net.SplitHostPort(other.Addr)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	s, err := launch(t.TempDir(), func() (int, error) {
		if asked++; asked == 1 {
			return taken, nil
		}
		return FreePort()
	}, func(port int) ([]string, error) {
		return []string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", ""}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	if s.Addr == other.Addr || asked < 2 {
		t.Errorf("it is on %s, as the other one is", s.Addr)
	}
	s.Do(t, "SET", "mine", "1")
	if there := other.Do(t, "EXISTS", "mine"); there != int64(0) {
		t.Errorf("the other one has its data: %v", there)
	}
	late := &Server{Addr: other.Addr, args: []string{"--port", port, "--bind", "127.0.0.1"}}
	if err := late.run(); !errors.Is(err, errEnded) {
		t.Errorf("a server without a port: %v", err)
	}
}
