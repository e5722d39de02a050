package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// MasterName is the name of the master for Sentinels that Sentinel starts.
const MasterName = "main"

// Replica starts a replica of a server, and ends it with the test. It is in step when this returns.
func Replica(t testing.TB, master *Server, args ...string) *Server {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := Start(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	Eventually(t, 10*time.Second, "the replica is in step", func() bool {
		role, _ := replica.Do(t, "ROLE").([]any)
		return len(role) > 3 && role[3] == "connected"
	})
	return replica
}

// Sentinel starts one Sentinel that watches a master and fails it over after half a second without it. It ends with the
// test.
func Sentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	s, err := launch(dir, FreePort, func(own int) ([]string, error) {
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n", own, dir) +
			fmt.Sprintf("sentinel monitor %s %s %s 1\n", MasterName, host, port) +
			fmt.Sprintf("sentinel down-after-milliseconds %s 500\n", MasterName) +
			fmt.Sprintf("sentinel failover-timeout %s 5000\n", MasterName)
		return []string{config, "--sentinel"}, os.WriteFile(config, []byte(text), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}
