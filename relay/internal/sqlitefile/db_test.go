package sqlitefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T) sqlitefile.Options {
	return sqlitefile.Options{
		Path: filepath.Join(t.TempDir(), "deep", "file.db"), Kind: "store", ApplicationID: 77, Readers: 2,
		Migrations: []string{"CREATE TABLE one (n INTEGER)"},
	}
}

func open(t *testing.T, o sqlitefile.Options) *sqlitefile.DB {
	t.Helper()
	d, err := sqlitefile.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestOpen(t *testing.T) {
	o := options(t)
	d := open(t, o)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if info, err := os.Stat(o.Path + suffix); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file with the suffix %q has mode %v, %v", suffix, info.Mode(), err)
		}
	}
	if err := d.Write(func() error { return d.Writer.Stmt("INSERT INTO one VALUES (1)").Exec() }); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o.Migrations = append(o.Migrations, "CREATE TABLE two (n INTEGER)", "INSERT INTO two SELECT n + 1 FROM one")
	d = open(t, o)
	if n, err := d.Writer.Stmt("SELECT n FROM two").Int64(); n != 2 || err != nil {
		t.Errorf("after its migrations the file has %d, %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o.Migrations = o.Migrations[:2]
	if _, err := sqlitefile.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "run the newer program") {
		t.Errorf("a file of a newer program returns %v", err)
	}
	o.ApplicationID++
	before, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitefile.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a file of another program returns %v", err)
	}
	if after, err := os.ReadFile(o.Path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed, %v", err)
	}
}

// A file that was open to others, as a restored one may be, is its owner's alone once it is open, and so are those beside it.
// A file of another program is left as it is.
func TestOpenMakesPrivate(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	suffixes := []string{"", "-wal", "-shm", ".lock"}
	ajar := func() {
		for _, suffix := range suffixes {
			if err := os.Chmod(o.Path+suffix, 0o664); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	want := func(mode fs.FileMode, suffixes ...string) {
		t.Helper()
		for _, suffix := range suffixes {
			if info, err := os.Stat(o.Path + suffix); err != nil || info.Mode() != mode {
				t.Errorf("the file with the suffix %q has mode %v, %v", suffix, info.Mode(), err)
			}
		}
	}
	ajar()
	foreign := o
	foreign.ApplicationID++
	if _, err := sqlitefile.Open(t.Context(), foreign); err == nil {
		t.Fatal("a file of another program was opened")
	}
	want(0o664, "")
	d := open(t, o)
	want(0o600, suffixes...)
	ajar()
	if err := d.Mend(); err != nil { // as after it was put back
		t.Fatal(err)
	}
	want(0o600, suffixes...)
}

// A copy that was cut within its last page, which SQLite takes for whole, is refused. With a log or a journal beside it, that may
// have the rest.
func TestOpenCut(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.Path, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	if d, err := sqlitefile.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), o.Path+": the file has been cut") {
		_ = d.Close()
		t.Errorf("it returns %v", err)
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if err := os.WriteFile(o.Path+suffix, make([]byte, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(t, o).Close(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(os.RemoveAll(o.Path+suffix), os.Truncate(o.Path, info.Size()-1)); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder in the place of the file is named in the error, with what to do.
func TestOpenFolder(t *testing.T) {
	o := options(t)
	if err := os.MkdirAll(o.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitefile.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), o.Path+": a folder has its name; remove that") {
		t.Errorf("it returns %v", err)
	}
}

func TestLocked(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	other := flock.New(o.Path + ".lock") // as another process would, of which nothing is known here
	if locked, err := other.TryLock(); !locked || err != nil {
		t.Fatal(locked, err)
	}
	defer func() { _ = other.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := sqlitefile.Open(ctx, o)
	if !errors.Is(err, relay.ErrStoreLocked) || errors.Is(err, relay.ErrStoreHeld) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("a second one gets %v", err)
	}
}

// A file that this process has is not waited for: whoever has it may close it only after its caller has gone on.
func TestHeld(t *testing.T) {
	o := options(t)
	d := open(t, o)
	start := time.Now()
	_, err := sqlitefile.Open(t.Context(), o)
	if !errors.Is(err, relay.ErrStoreHeld) || !errors.Is(err, relay.ErrStoreLocked) || !strings.Contains(err.Error(), "store "+o.Path+": this process has it open already") {
		t.Errorf("a second one gets %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it waited for %s", took)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, o)
}

// The errors of a statement come from its steps, whatever was done with it before.
func TestStmt(t *testing.T) {
	d := open(t, options(t))
	for range 2 {
		st := d.Writer.Stmt("SELECT nothing FROM nowhere WHERE a = ?")
		st.Bind(1)
		st.BindText(1, "")
		st.BindBlob(1, nil)
		if found, err := st.Step(); found || err == nil || st.ColumnText(0) != "" || st.ColumnInt(0) != 0 || st.ColumnBlob(0) != nil {
			t.Errorf("a statement that cannot be prepared returns %v, %v", found, err)
		}
		if err := st.Reset(); err != nil {
			t.Error(err)
		}
	}
	st := d.Writer.Stmt("SELECT 1")
	if st.Bind(1, 2); st.Exec() == nil {
		t.Error("a parameter that there is not returns no error")
	}
	if n, err := d.Writer.Stmt("SELECT 1").Int64(); n != 1 || err != nil {
		t.Errorf("the next time it returns %d, %v", n, err)
	}
	err := d.Write(func() error {
		if err := d.Writer.Stmt("INSERT INTO one VALUES (1)").Exec(); err != nil {
			return err
		}
		panic("half way")
	})
	if n, count := d.Writer.Stmt("SELECT count(*) FROM one").Int64(); n != 0 || count != nil || err == nil {
		t.Errorf("after a panic with %v there are %d rows, %v", err, n, count)
	}
	if err := d.Health(); err != nil {
		t.Error(err)
	}
}

// TestReadRefused: what the file refuses to a reader, and what takes longer than a snapshot may be held, is for now.
func TestReadRefused(t *testing.T) {
	t.Parallel()
	o := options(t)
	d := open(t, o)
	read := func(sql string) error {
		return d.Read(t.Context(), func(c *sqlitefile.Conn) error {
			_, err := c.Stmt(sql).Int64()
			return err
		})
	}
	endless := "WITH RECURSIVE all_of(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM all_of) SELECT count(*) FROM all_of"
	if err := read(endless); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("reading without end returns %v", err)
	}
	many := "WITH RECURSIVE some(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM some WHERE n < 100000) INSERT INTO one SELECT n FROM some"
	if err := d.Write(func() error { return d.Writer.Stmt(many).Exec() }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Writer.Stmt("PRAGMA wal_checkpoint(TRUNCATE)").Int64(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.Path, 16<<10); err != nil {
		t.Fatal(err)
	}
	if err := read("SELECT sum(n) FROM one"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("reading a file that was cut returns %v", err)
	}
	if err := read("SELECT nothing FROM one"); err == nil || errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a statement that is wrong returns %v", err)
	}
}
