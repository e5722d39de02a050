package durable_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
)

func TestMakeFolder(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "a", "b")
	for range 2 { // the second time it is there
		if err := durable.MakeFolder(folder); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{file, filepath.Join(file, "b")} {
		if err := durable.MakeFolder(folder); err == nil || !strings.HasPrefix(err.Error(), file+" is a file, and no folder") {
			t.Errorf("%s is in the way, and the error is %v", file, err)
		}
	}
}

// A filesystem that writes nothing, and so has no sync, keeps nobody from using what is mounted below it.
func TestMakeFolderWhereNothingIsSynced(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	if err := durable.SyncFolder("/proc"); err == nil {
		t.Skip("this /proc can be synced")
	}
	if err := durable.MakeFolder("/proc/self"); err != nil {
		t.Error(err)
	}
}
