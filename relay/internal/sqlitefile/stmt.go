package sqlitefile

import "zombiezen.com/go/sqlite"

// Stmt is a statement of a Conn. What goes wrong with it, in preparing and binding too, is the error of its next step, so
// that there is one place to look for it.
//
// Statements that are run all the time compare with +? and not with ?, and have LIMIT 0 + ?. SQLite would look at the value
// of a bare parameter to plan by it, and so prepare the statement anew whenever it is bound
// (https://www.sqlite.org/queryplanner-ng.html, "the query planner stability guarantee", whose switch cannot be reached from
// here). That takes longer than most of them.
type Stmt struct {
	st  *sqlite.Stmt // nil where it could not be prepared
	err error
}

// Bind binds the first parameters.
func (s *Stmt) Bind(values ...int64) {
	for i, v := range values {
		s.BindInt64(i+1, v)
	}
}

// BindInt64 binds one parameter; the first is 1.
func (s *Stmt) BindInt64(param int, v int64) {
	if s.err == nil {
		s.st.BindInt64(param, v)
	}
}

// BindText binds one parameter.
func (s *Stmt) BindText(param int, v string) {
	if s.err == nil {
		s.st.BindText(param, v)
	}
}

// BindBytes binds one parameter, an empty slice as an empty blob.
func (s *Stmt) BindBytes(param int, v []byte) {
	if s.err == nil {
		s.st.BindBytes(param, v)
	}
}

// BindBlob binds one parameter, an empty slice as NULL.
func (s *Stmt) BindBlob(param int, v []byte) {
	if len(v) > 0 {
		s.BindBytes(param, v)
	} else {
		s.BindNull(param)
	}
}

// BindNull binds one parameter.
func (s *Stmt) BindNull(param int) {
	if s.err == nil {
		s.st.BindNull(param)
	}
}

// Step moves to the next row, and reports whether there is one. What the file refuses wraps relay.ErrUnavailable, or
// relay.ErrStoreFull.
func (s *Stmt) Step() (found bool, err error) {
	if err = s.err; err == nil {
		found, err = s.st.Step()
	}
	if isRefusal(err) {
		err = unavailable(err)
	}
	return found, err
}

// Reset ends a statement before its last row. Until then it keeps its connection's snapshot.
func (s *Stmt) Reset() error {
	if s.st == nil {
		return nil
	}
	return s.st.Reset()
}

// Exec runs a statement that has no rows.
func (s *Stmt) Exec() error {
	_, err := s.Exists()
	return err
}

// Exists reports whether a statement has a row.
func (s *Stmt) Exists() (bool, error) {
	found, err := s.Step()
	if reset := s.Reset(); err == nil {
		err = reset
	}
	return found, err
}

// Each calls f for every row.
func (s *Stmt) Each(f func()) error {
	return s.Until(func(*Stmt) (bool, error) { f(); return false, nil })
}

// Until calls f for the rows until it is done.
func (s *Stmt) Until(f func(*Stmt) (done bool, err error)) error {
	defer func() { _ = s.Reset() }()
	for {
		found, err := s.Step()
		if !found || err != nil {
			return err
		}
		if done, err := f(s); done || err != nil {
			return err
		}
	}
}

// Int64 returns the one value of a statement's first row; zero if there is none.
func (s *Stmt) Int64() (n int64, err error) {
	err = s.Until(func(s *Stmt) (bool, error) { n = s.ColumnInt64(0); return true, nil })
	return n, err
}

// ColumnInt64 returns a column of the row; the first is 0. Like the other columns it is empty where there is no row.
func (s *Stmt) ColumnInt64(column int) int64 {
	if s.err != nil {
		return 0
	}
	return s.st.ColumnInt64(column)
}

// ColumnInt returns a column of the row.
func (s *Stmt) ColumnInt(column int) int { return int(s.ColumnInt64(column)) }

// ColumnBool reports whether a column of the row is not zero.
func (s *Stmt) ColumnBool(column int) bool { return s.ColumnInt64(column) != 0 }

// ColumnText returns a column of the row.
func (s *Stmt) ColumnText(column int) string {
	if s.err != nil {
		return ""
	}
	return s.st.ColumnText(column)
}

// ColumnBytes copies a column of the row to b.
func (s *Stmt) ColumnBytes(column int, b []byte) {
	if s.err == nil {
		s.st.ColumnBytes(column, b)
	}
}

// ColumnBlob returns a copy of a column of the row, nil if it is empty.
func (s *Stmt) ColumnBlob(column int) []byte {
	if s.err != nil {
		return nil
	}
	n := s.st.ColumnLen(column)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	s.st.ColumnBytes(column, b)
	return b
}
