package sqlitestore

import (
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// keepFiles keeps files with their event.
func (s *Store) keepFiles(event int64, files []relay.File) error {
	for _, f := range files {
		st := s.db.Writer.Stmt(`INSERT INTO file (event, field, url, object, type, size, sha256) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
			WHERE (SELECT count(*) FROM file WHERE event = ?1 AND field <> ?2) < ?8
			ON CONFLICT (event, field) DO UPDATE SET url = ?3, object = ?4, type = ?5, size = ?6, sha256 = ?7`)
		st.BindInt64(1, event)
		st.BindText(2, f.Field)
		st.BindText(3, f.URL)
		st.BindText(4, f.Object)
		st.BindText(5, f.ContentType)
		st.BindInt64(6, f.Size)
		st.BindText(7, f.SHA256)
		st.BindInt64(8, relay.MaxFiles)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// filesOf returns the files of an event, by field.
func filesOf(c *sqlitefile.Conn, event int64) (files []relay.File, err error) {
	st := c.Stmt("SELECT field, url, object, type, size, sha256 FROM file WHERE event = +? ORDER BY field")
	st.BindInt64(1, event)
	err = st.Each(func() {
		files = append(files, relay.File{
			Field: st.ColumnText(0), URL: st.ColumnText(1), Object: st.ColumnText(2), ContentType: st.ColumnText(3),
			Size: st.ColumnInt64(4), SHA256: st.ColumnText(5),
		})
	})
	return files, err
}

func (s *Store) readFiles(c *sqlitefile.Conn, r *relay.EventRecord) (err error) {
	r.Files, err = filesOf(c, r.Seq)
	return err
}
