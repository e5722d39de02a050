package powercut

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// scenario lets a process work on a disk that has the file old with the content "old".
type scenario struct {
	t    *testing.T
	disk *disk
	path string
}

func newScenario(t *testing.T) *scenario {
	t.Helper()
	content := t.TempDir()
	if err := os.WriteFile(filepath.Join(content, "old"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newDisk(content, "/disk")
	if err != nil {
		t.Fatal(err)
	}
	return &scenario{t: t, disk: d, path: "/disk"}
}

func (s *scenario) begin(c *call) *call {
	s.t.Helper()
	if err := s.disk.apply(moment{c, false}); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *scenario) end(c *call) {
	s.t.Helper()
	if err := s.disk.apply(moment{c, true}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scenario) do(result int64, name string, args ...string) {
	s.t.Helper()
	s.end(s.begin(&call{name: name, args: args, result: result}))
}

func (s *scenario) write(descriptor, text string) *call {
	s.t.Helper()
	return s.begin(&call{name: "write", args: []string{descriptor}, data: []byte(text), result: int64(len(text))})
}

// left returns the content of a file after a loss of power that keeps all or nothing of what is unsynced; "-" if it is gone.
func (s *scenario) left(name string, keep float64) string {
	s.t.Helper()
	folder := s.t.TempDir()
	if err := s.disk.leave(&fate{random: rand.New(rand.NewPCG(1, 2)), keep: keep}, folder); err != nil {
		s.t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return "-"
	}
	return string(content)
}

func (s *scenario) want(name, lost, kept string) {
	s.t.Helper()
	if got := s.left(name, 0); got != lost {
		s.t.Errorf("if everything is lost, %s is %q, want %q", name, got, lost)
	}
	if got := s.left(name, 1); got != kept {
		s.t.Errorf("if everything is kept, %s is %q, want %q", name, got, kept)
	}
}

func TestDisk(t *testing.T) {
	t.Run("content is certain after a sync", func(t *testing.T) {
		s := newScenario(t)
		s.do(3, "openat", "AT_FDCWD", "/disk/old", "O_RDWR")
		s.end(s.write("3", "ABCDE"))
		s.want("old", "old", "ABCDE")
		s.do(0, "fsync", "3")
		s.want("old", "ABCDE", "ABCDE")
		s.do(0, "ftruncate", "3", "2")
		s.want("old", "ABCDE", "AB")
	})
	t.Run("a sync covers what was written before it began", func(t *testing.T) {
		s := newScenario(t)
		s.do(3, "openat", "AT_FDCWD", "/disk/old", "O_RDWR")
		first := s.write("3", "A")
		sync := s.begin(&call{name: "fsync", args: []string{"3"}})
		s.end(first)
		s.end(s.write("3", "B"))
		s.end(sync)
		s.want("old", "old", "ABd")
	})
	t.Run("a write that its process did not live to see the end of is older than those of the next process", func(t *testing.T) {
		s := newScenario(t)
		s.do(3, "openat", "AT_FDCWD", "/disk/old", "O_RDWR")
		s.write("3", "A")
		s.do(0, processEnds, "")
		s.do(3, "openat", "AT_FDCWD", "/disk/old", "O_RDWR")
		s.end(s.write("3", "B"))
		s.do(0, "fsync", "3")
		s.want("old", "Bld", "Bld")
	})
	t.Run("a sync that fails covers nothing", func(t *testing.T) {
		s := newScenario(t)
		s.do(3, "openat", "AT_FDCWD", "/disk/old", "O_RDWR")
		s.end(s.write("3", "A"))
		s.do(-1, "fsync", "3")
		s.want("old", "old", "Ald")
	})
	t.Run("a name is certain once its folder is synced", func(t *testing.T) {
		s := newScenario(t)
		s.do(3, "openat", "AT_FDCWD", "/disk/new", "O_RDWR|O_CREAT")
		s.end(s.write("3", "new"))
		s.do(0, "fsync", "3")
		s.want("new", "-", "new")
		s.do(4, "openat", "AT_FDCWD", "/disk", "O_RDONLY")
		s.do(0, "fsync", "4")
		s.want("new", "new", "new")
		s.do(0, "rename", "/disk/new", "/disk/old")
		s.want("old", "old", "new")
		s.want("new", "new", "-")
		s.do(0, "fsync", "4")
		s.want("old", "new", "new")
		s.do(0, "unlink", "/disk/old")
		s.want("old", "new", "-")
	})
	t.Run("a folder is certain once its own is synced", func(t *testing.T) {
		s := newScenario(t)
		s.do(0, "mkdirat", "AT_FDCWD", "/disk/folder", "0700")
		s.do(3, "openat", "AT_FDCWD", "/disk/folder", "O_RDONLY")
		s.do(4, "openat", "3", "new", "O_RDWR|O_CREAT")
		s.end(s.write("4", "new"))
		s.do(0, "fsync", "4")
		s.do(0, "fsync", "3")
		s.want("folder/new", "-", "new")
		s.do(5, "openat", "AT_FDCWD", "/disk", "O_RDONLY")
		s.do(0, "fsync", "5")
		s.want("folder/new", "new", "new")
	})
}

// Any of the blocks of a write may be kept.
func TestTornWrite(t *testing.T) {
	ch := &change{at: 500, data: make([]byte, 1100)}
	var sizes []int
	for _, part := range ch.blocks(sector) {
		sizes = append(sizes, len(part.data))
	}
	if len(sizes) != 4 || sizes[0] != 12 || sizes[1] != 512 || sizes[2] != 512 || sizes[3] != 64 {
		t.Errorf("the blocks have %v bytes", sizes)
	}
}
