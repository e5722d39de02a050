package servers_test

import (
	"os/exec"
	"sync"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// TestListen listens on one address again and again, while children are started.
func TestListen(t *testing.T) {
	address, err := servers.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var forking sync.WaitGroup
	defer forking.Wait()
	defer close(done)
	forking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 2000 {
		listener, err := servers.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
