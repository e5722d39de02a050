package archive_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/archive"
)

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "a", "b")
	f, err := archive.NewFolder(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is made before it is needed", err)
	}
	put := func(name, text string) error { return f.Put(t.Context(), name, strings.NewReader(text), -1, "") }
	if err := errors.Join(put("x/y/z.mp3", "old"), put("x/y/z.mp3", "new"), put("top.mp3", "")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(folder, "x/y/z.mp3")); err != nil || string(b) != "new" {
		t.Error(string(b), err)
	}
	if err := errors.Join(os.Symlink(dir, filepath.Join(folder, "link")), os.Symlink(filepath.Join(dir, "secret"), filepath.Join(folder, "file"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", "./a", "link/x", "x/y"} {
		if err := put(name, "text"); err == nil || strings.Contains(err.Error(), dir) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := put("file", "text"); err != nil { // the link is replaced, not followed
		t.Error(err)
	}
	if names := files(t, dir); !slices.Equal(names, []string{"a/b/file", "a/b/link", "a/b/top.mp3", "a/b/x/y/z.mp3"}) {
		t.Error(names)
	}
	if err := f.Put(t.Context(), "x/half.mp3", io.MultiReader(strings.NewReader("half"), failing{}), 100, ""); !errors.Is(err, errFailing) {
		t.Error(err)
	}
	full := 10.0
	f.SetFree(func() float64 { return full })
	if err := put("x/room.mp3", ""); err != nil {
		t.Error(err)
	}
	full = 9.9
	if err := put("x/full.mp3", ""); err == nil || err.Error() != "the archive's disk has less than 10% free" {
		t.Error(err)
	}
	reads := 0
	f.SetFree(func() float64 { reads++; return 11 - float64(reads) }) // it fills while a file comes
	if err := f.Put(t.Context(), "x/long.mp3", endless{}, -1, ""); err == nil || reads != 2 {
		t.Error(err, reads)
	}
	if names := files(t, folder); len(names) != 5 {
		t.Error(names)
	}
}

// A file makes its own name durable, and the names of folders that this process has not made durable yet.
func TestFolderSyncsOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "s", "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := archive.NewFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	f.OnSync(func(folder string) { synced = append(synced, folder) })
	for _, step := range []struct {
		name string
		want []string
	}{
		{"s/old/t/a.mp3", []string{".", "s", "s/old", "s/old/t"}},
		{"s/old/t/b.mp3", []string{"s/old/t"}},
		{"s/new/t/c.mp3", []string{"s", "s/new", "s/new/t"}},
		{"s/old/u/d.mp3", []string{"s/old", "s/old/u"}},
		{"s/old/t/e.mp3", []string{"s/old", "s/old/t"}}, // whose folder somebody deletes before
	} {
		if synced = nil; strings.HasSuffix(step.name, "e.mp3") {
			if err := os.RemoveAll(filepath.Join(dir, "s", "old", "t")); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Put(t.Context(), step.name, strings.NewReader("text"), -1, ""); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(synced, step.want) {
			t.Errorf("%s: %q were synced, want %q", step.name, synced, step.want)
		}
	}
}

var errFailing = errors.New("failing")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExpire(t *testing.T) {
	folder := t.TempDir()
	const delivered, waiting = "01K5ZV9S5Q8VJ8A9YB0N7DQ2RA", "01K5ZV9S5Q8VJ8A9YB0N7DQ2RB"
	old, young := time.Now().Add(-49*time.Hour), time.Now().Add(-47*time.Hour)
	for name, at := range map[string]time.Time{
		"s/d/t/" + delivered + "-a.mp3": old, "s/d/t/" + delivered + "-b.mp3": young, "s/d/t/" + waiting + "-a.mp3": old,
		"s/my-own.mp3": old, "s/.part-A": old, "s/.part-B": time.Now(),
	} {
		name = filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(_ context.Context, id string) (bool, error) { return id == delivered, nil }
	for _, step := range []struct {
		keep time.Duration
		want []string
	}{
		{0, []string{"s/.part-B", "s/d/t/" + delivered + "-a.mp3", "s/d/t/" + delivered + "-b.mp3", "s/d/t/" + waiting + "-a.mp3", "s/my-own.mp3"}},
		{48 * time.Hour, []string{"s/.part-B", "s/d/t/" + delivered + "-b.mp3", "s/d/t/" + waiting + "-a.mp3", "s/my-own.mp3"}},
	} {
		f, err := archive.NewFolder(folder, step.keep)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := options(t)
		o.Storage = f
		a := archive.New(o)
		if err := a.Expire(t.Context(), ask); err != nil {
			t.Error(err)
		}
		if got := files(t, folder); !slices.Equal(got, step.want) {
			t.Errorf("keep %s: %v", step.keep, got)
		}
		// Without an answer of the store, nothing goes.
		failed := errors.New("away")
		err = a.Expire(t.Context(), func(context.Context, string) (bool, error) { return true, failed })
		if step.keep > 0 && !errors.Is(err, failed) {
			t.Error(err)
		}
		if got := files(t, folder); !slices.Equal(got, step.want) {
			t.Errorf("keep %s: %v", step.keep, got)
		}
	}
}

// The folders of dates and tasks go once they are empty; those of others, and those that are new, stay.
func TestExpireRemovesEmptyFolders(t *testing.T) {
	dir := t.TempDir()
	const event = "01K5ZV9S5Q8VJ8A9YB0N7DQ2RA"
	old := time.Now().Add(-49 * time.Hour)
	for _, folder := range []string{"s/2026-01-01/kept", "s/2026-01-01/task", "s/2026-01-02/task", "s/2026-01-03", "s/2026-01-04", "mine/empty"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"s/2026-01-01/kept/note.txt", "s/2026-01-01/task/" + event + "-a.mp3", "s/2026-01-02/task/" + event + "-a.mp3",
		"s/2026-01-01/task", "s/2026-01-01", "s/2026-01-02/task", "s/2026-01-02", "s/2026-01-03", "mine/empty", "mine",
	} {
		path := filepath.Join(dir, name)
		if filepath.Ext(name) != "" {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	f, err := archive.NewFolder(dir, 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Expire(t.Context(), func(context.Context, string) (bool, error) { return true, nil }); err != nil {
		t.Error(err)
	}
	var left []string
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			left = append(left, name)
		}
		return err
	})
	if want := []string{".", "mine", "mine/empty", "s", "s/2026-01-01", "s/2026-01-01/kept", "s/2026-01-04"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("%v, %q are left, want %q", err, left, want)
	}
}

// A file comes into its folder although that is removed at the last moment.
func TestPutMakesARemovedFolderAgain(t *testing.T) {
	dir := t.TempDir()
	f, err := archive.NewFolder(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	removed := false
	f.OnSync(func(folder string) {
		if folder == "s/2026-01-01" && !removed { // in which the folder of the task has just been made
			removed = true
			if err := os.Remove(filepath.Join(dir, folder, "t")); err != nil {
				t.Error(err)
			}
		}
	})
	if err := f.Put(t.Context(), "s/2026-01-01/t/a.mp3", strings.NewReader("text"), -1, ""); err != nil || !removed {
		t.Error(err, removed)
	}
	if names := files(t, dir); !slices.Equal(names, []string{"s/2026-01-01/t/a.mp3"}) {
		t.Error(names)
	}
}

// A file takes the same memory whatever its size.
func TestMemory(t *testing.T) {
	const size = 64 << 20
	url := server(t, serveSize(size))
	o, _ := options(t)
	a := archive.New(o)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if stored, err := a.Archive(t.Context(), event(url+"/a.wav"), nil); err != nil || stored[0].Size != size {
		t.Fatal(stored, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
