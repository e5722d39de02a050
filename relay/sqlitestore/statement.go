package sqlitestore

import (
	"zombiezen.com/go/sqlite"
)

// Statements that are run all the time compare with +? and not with ?. SQLite would look at the value of a bare parameter
// to plan by it, and so prepare the statement anew whenever it is bound (https://www.sqlite.org/queryplanner-ng.html, "the
// query planner stability guarantee", whose switch cannot be reached from here).

// exec runs a statement that gives no rows.
func exec(st *sqlite.Stmt) error {
	_, err := st.Step()
	if reset := st.Reset(); err == nil {
		err = reset
	}
	return err
}

// exists says whether a statement gives a row.
func exists(st *sqlite.Stmt) (bool, error) {
	found, err := st.Step()
	if reset := st.Reset(); err == nil {
		err = reset
	}
	return found, err
}

// each calls f for every row of a statement.
func each(st *sqlite.Stmt, f func()) error {
	defer func() { _ = st.Reset() }()
	for {
		found, err := st.Step()
		if !found || err != nil {
			return err
		}
		f()
	}
}

// until calls f for the rows of a statement until it is done.
func until(st *sqlite.Stmt, f func(*sqlite.Stmt) (done bool, err error)) error {
	defer func() { _ = st.Reset() }()
	for {
		found, err := st.Step()
		if !found || err != nil {
			return err
		}
		if done, err := f(st); done || err != nil {
			return err
		}
	}
}

func bind(st *sqlite.Stmt, values ...int64) {
	for i, v := range values {
		st.BindInt64(i+1, v)
	}
}

func bindBlob(st *sqlite.Stmt, param int, b []byte) {
	if len(b) == 0 {
		st.BindNull(param)
		return
	}
	st.BindBytes(param, b)
}

func blob(st *sqlite.Stmt, column int) []byte {
	n := st.ColumnLen(column)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	st.ColumnBytes(column, b)
	return b
}
