#!/bin/sh
# SQLite in WAL mode through zombiezen.com/go/sqlite 1.4.2: an online backup ends sooner inside a read transaction.
#
# Expected: a backup by steps reads pages of the source without holding it up. A transaction that is open on the
#           source's connection should make no difference, or rather be in the way.
# Actual:   with a commit of another connection between any two steps, the backup begins anew each time and never
#           ends. If the connection to back up has begun a transaction and read anything before, its snapshot is what is
#           copied: the same backup under the same writes ends after as many steps as the pages need.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	step  = 50  // pages
	limit = 500 // steps
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func open(path string) *sqlite.Conn {
	c, err := sqlite.OpenConn(path)
	must(err)
	return c
}

func execute(c *sqlite.Conn, query string) { must(sqlitex.ExecuteTransient(c, query, nil)) }

// backup copies the source while the writer commits between the steps. It returns how many steps that took, whether it
// ended within the limit, and whether the copy is sound.
func backup(source, writer *sqlite.Conn, path string) (steps, pages int, ended, sound bool) {
	copied := open(path)
	defer copied.Close()
	b, err := sqlite.NewBackup(copied, "main", source, "main")
	must(err)
	for more := true; more && steps < limit; steps++ {
		execute(writer, "UPDATE t SET n = n + 1 WHERE id = 1")
		more, err = b.Step(step)
		must(err)
		ended, pages = !more, b.PageCount()
	}
	must(b.Close())
	if ended {
		must(sqlitex.ExecuteTransient(copied, "PRAGMA integrity_check", &sqlitex.ExecOptions{
			ResultFunc: func(s *sqlite.Stmt) error { sound = s.ColumnText(0) == "ok"; return nil },
		}))
	}
	return steps, pages, ended, sound
}

func main() {
	writer := open("source.db")
	defer writer.Close()
	execute(writer, "PRAGMA journal_mode = WAL")
	execute(writer, "PRAGMA synchronous = OFF")
	execute(writer, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, filler BLOB)")
	execute(writer, "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM i WHERE x < 1000) INSERT INTO t SELECT x, 0, zeroblob(3000) FROM i")
	source := open("source.db")
	defer source.Close()

	steps, pages, bare, _ := backup(source, writer, "bare.db")
	fmt.Printf("saw: %d pages, %d a step, no transaction: ended within %d steps: %t\n", pages, step, steps, bare)
	execute(source, "BEGIN")
	execute(source, "SELECT count(*) FROM sqlite_master")
	steps, _, inside, sound := backup(source, writer, "inside.db")
	execute(source, "COMMIT")
	fmt.Printf("saw: inside a read transaction: ended within %d steps: %t, and the copy is sound: %t\n", steps, inside, sound)
	if bare || !inside || !sound {
		fmt.Println("CHANGED: this is not what was found")
		os.Exit(1)
	}
}
GO
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get zombiezen.com/go/sqlite@v1.4.2 modernc.org/sqlite@v1.62.0 2>go.log || { echo "zombiezen.com/go/sqlite 1.4.2 cannot be downloaded" >&2; exit 2; }

echo "zombiezen.com/go/sqlite 1.4.2, modernc.org/sqlite 1.62.0"
echo "expected: an open read transaction does not help a backup by steps to end"
echo "actual:   under constant writes it ends only inside of one"
go build -o finding . || exit 2
./finding
