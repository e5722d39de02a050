package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A backup by another process ends though callbacks never stop, and holds everything that was answered before it began.
func TestBackupWhileWritten(t *testing.T) {
	shell := func(commands ...string) func(context.Context, string, string) error {
		return func(ctx context.Context, path, _ string) error {
			cmd := exec.CommandContext(ctx, "sqlite3", append([]string{"-bail", path}, commands...)...)
			cmd.Dir = filepath.Dir(path)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}
	}
	for name, take := range map[string]func(ctx context.Context, path, copyTo string) error{
		"ours": func(ctx context.Context, path, copyTo string) error { return Backup(ctx, path, copyTo, false) },
		// The ways for those who have nothing but SQLite's shell.
		"vacuum": shell("VACUUM INTO 'backup.db'"),
		// The transaction keeps one state of the file for the copy, which would begin anew at each commit otherwise.
		"backup": shell("BEGIN", "SELECT count(*) FROM sqlite_master", ".backup backup.db"),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.fill(300)
			before := len(p.ids)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			copyTo := filepath.Join(filepath.Dir(p.path), "backup.db")
			done := make(chan error, 1)
			go func() { done <- take(ctx, p.path, copyTo) }()
			for writing := true; writing; {
				select {
				case err := <-done:
					p.must(err)
					writing = false
				default:
					p.fill(1)
				}
			}
			if len(p.ids) == before {
				t.Error("nothing was written meanwhile")
			}
			t.Logf("%d callbacks were answered while the backup was taken", len(p.ids)-before)
			backup, err := Open(t.Context(), Options{Path: copyTo, MinFree: 1})
			p.must(err)
			for i, id := range p.ids[:before] {
				if _, err := backup.Event(t.Context(), id); err != nil {
					t.Fatalf("event %d is not in the backup: %v", i, err)
				}
			}
			l := &relay.Lease{Source: "vocals", Destination: "search", Max: before, For: time.Minute}
			if backup.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}}); l.Err != nil || len(l.Leased) != before {
				t.Errorf("the backup has %d deliveries, %v", len(l.Leased), l.Err)
			}
			p.must(backup.Close())
			p.wantWell()
		})
	}
}

// A backup is for its owner alone, and takes the place of no other file unless asked to. What fails leaves nothing behind.
func TestBackupFiles(t *testing.T) {
	p := newPatient(t)
	p.fill(1)
	folder := t.TempDir()
	copyTo := filepath.Join(folder, "backup.db")
	wantNames := func(expected ...string) {
		t.Helper()
		entries, err := os.ReadDir(folder)
		p.must(err)
		names := []string{}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, expected) {
			t.Errorf("the folder holds %v, not %v", names, expected)
		}
	}

	foreign := filepath.Join(t.TempDir(), "foreign.db")
	p.must(os.WriteFile(foreign, nil, 0o600))
	for _, path := range []string{foreign, foreign + ".missing"} {
		if err := Backup(t.Context(), path, copyTo, false); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is copied, or the error does not name it: %v", path, err)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := Backup(stopped, p.path, copyTo, false); err == nil {
		t.Error("a backup that was stopped ends without an error")
	}
	wantNames()

	p.must(os.WriteFile(copyTo, []byte("precious"), 0o644))
	if err := Backup(t.Context(), p.path, copyTo, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a backup over another file: %v", err)
	}
	if kept, err := os.ReadFile(copyTo); err != nil || string(kept) != "precious" {
		t.Errorf("the other file holds %q, %v", kept, err)
	}
	p.must(Backup(t.Context(), p.path, copyTo, true))
	wantNames("backup.db")
	info, err := os.Stat(copyTo)
	p.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has the mode %v", info.Mode())
	}
	backup, err := Open(t.Context(), Options{Path: copyTo, MinFree: 1})
	p.must(err)
	if _, err := backup.Event(t.Context(), p.ids[0]); err != nil {
		t.Error(err)
	}
	p.must(backup.Close())
	p.wantWell()
}

// A store that is in use is not replaced by a copy of itself, nor one whose process died by anything that its log would then be
// applied to.
func TestBackupOverStore(t *testing.T) {
	p := newPatient(t)
	p.fill(1)
	dead := filepath.Join(t.TempDir(), "dead.db")
	p.must(os.WriteFile(dead, []byte("precious"), 0o600))
	p.must(os.WriteFile(dead+"-wal", []byte("precious"), 0o600))
	for _, copyTo := range []string{p.path, dead} {
		before, err := os.ReadFile(copyTo)
		p.must(err)
		if err := Backup(t.Context(), p.path, copyTo, true); err == nil || errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), copyTo+"-wal is there") {
			t.Errorf("a backup over %s returns %v", copyTo, err)
		}
		if after, err := os.ReadFile(copyTo); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s was replaced, %v", copyTo, err)
		}
	}
	p.must(os.Remove(dead)) // its log alone would harm too
	if err := Backup(t.Context(), p.path, dead, false); err == nil {
		t.Error("a backup was put beside another database's log")
	}
	if err := Backup(t.Context(), p.path, filepath.Dir(dead), true); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a backup over a folder returns %v", err)
	}
	p.tend()
	p.wantWell()
}
