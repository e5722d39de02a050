package sqlitefile

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// watch checks the three files of an open database: whether their names are still those of what is open, and whether
// somebody has cut them. SQLite itself does not look. It would go on to write into a file without a name, or behind the end
// of a log that somebody has emptied, and none of that would be found after a crash.
//
// The handles are opened after SQLite's own and closed after them. A process that closes any handle of a file loses all
// its POSIX locks on it, SQLite's too (https://www.sqlite.org/howtocorrupt.html, 2.2), so that the next one to come would
// take the database for abandoned.
type watch struct {
	path           string
	db, log, index *os.File

	mu        sync.Mutex // guards what follows
	size      int64      // of the database, at least
	indexSize int64      // of the log's index, at least
	frames    uint32     // in the log, after the last commit
	logEnd    int64      // where they end
	head      []byte     // of the log, when it was last seen whole
	cut       bool       // somebody has cut or overwritten the database or its log: the content is to be checked
}

const (
	logSuffix   = "-wal"
	indexSuffix = "-shm"
	// journalSuffix is that of what SQLite has instead of a log until the file is first opened here.
	journalSuffix = "-journal"

	databaseMagic = "SQLite format 3\x00" // which a database begins with
)

// openLog opens the handles of the log and its index, which SQLite has made by now.
func (w *watch) openLog() (err error) {
	if w.log, err = os.OpenFile(w.path+logSuffix, os.O_RDWR, 0); err != nil {
		return err
	}
	if w.index, err = os.OpenFile(w.path+indexSuffix, os.O_RDWR, 0); err != nil {
		return err
	}
	w.indexSize = 0
	_, err = w.wholeLog()
	return errors.Join(err, w.wholeIndex())
}

func (w *watch) closeLog() error {
	var err error
	for _, f := range []**os.File{&w.log, &w.index} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	return err
}

// logHeader is the content of the header of the log's index (https://www.sqlite.org/walformat.html, "The WAL-Index File
// Format").
type logHeader struct {
	frames     uint32 // valid ones in the log
	copied     uint32 // of them in the database
	page, salt int64
}

func (w *watch) header() (logHeader, error) {
	var b [100]byte
	if _, err := w.index.ReadAt(b[:], 0); err != nil {
		return logHeader{}, fmt.Errorf("%s has been truncated: %w", w.index.Name(), err)
	}
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	h := logHeader{frames: word(16), copied: word(96), page: int64(binary.NativeEndian.Uint16(b[14:])), salt: int64(binary.NativeEndian.Uint64(b[32:]))}
	if h.page == 1 {
		h.page = 64 << 10
	}
	return h, nil
}

const (
	logHead   = 32 // bytes before the first frame
	frameHead = 24
)

// frameAt returns where a frame begins; the first is 1.
func (h logHeader) frameAt(n uint32) int64 { return logHead + int64(n-1)*(frameHead+h.page) }

// holds reports whether the log has a frame of the current round: each round has a salt of its own. Frame 0 is the head
// of the log.
func (w *watch) holds(h logHeader, frame uint32) bool {
	at := int64(16) // of the salt in the log's head
	if frame > 0 {
		at = h.frameAt(frame) + 8
	}
	var b [8]byte
	_, err := w.log.ReadAt(b[:], at)
	return err == nil && int64(binary.NativeEndian.Uint64(b[:])) == h.salt
}

// bytesInLog returns how much of the log is in use: its file does not shrink when the writer begins anew.
func (w *watch) bytesInLog() (int64, error) {
	h, err := w.header()
	return int64(h.frames) * (frameHead + h.page), err
}

// writable checks before a write that nothing was cut from the log: what is written behind it would hide that.
func (w *watch) writable() error {
	w.mu.Lock()
	end := w.logEnd
	w.mu.Unlock()
	if _, size, err := linksAndSize(w.log); err != nil || size >= end {
		return err
	}
	_, err := w.wholeLog() // it may have been begun anew
	return err
}

// committed checks after a commit that what it wrote will be found again: database and log have a name, and nothing was
// cut from the log while it was being written. It costs four system calls.
func (w *watch) committed() error {
	if links, _, err := linksAndSize(w.db); err != nil || links == 0 {
		return cmp.Or(err, w.checkDatabase(), fmt.Errorf("%s has lost its name", w.path))
	}
	if links, err := w.wholeLog(); err != nil || links == 0 {
		return cmp.Or(err, sameFile(w.log, w.log.Name()), fmt.Errorf("%s has lost its name", w.log.Name()))
	}
	return nil
}

// wholeLog checks that nothing is missing from the log, and returns how many names it has.
func (w *watch) wholeLog() (links uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 3 { // the log may be begun anew between two looks, but not each time
		if links, err = w.wholeNow(); err == nil {
			break
		}
	}
	return links, err
}

func (w *watch) wholeNow() (links uint64, err error) {
	h, err := w.header() // first, since a commit writes to the log before it writes here
	if err != nil {
		return 0, err
	}
	links, size, err := linksAndSize(w.log)
	if err != nil {
		return 0, err
	}
	if h.frames > 0 && (size < h.frameAt(h.frames+1) || !w.holds(h, min(w.frames, h.frames))) {
		return 0, fmt.Errorf("%s has been truncated", w.log.Name())
	}
	w.frames, w.logEnd = h.frames, 0
	if h.frames > 0 {
		w.logEnd = h.frameAt(h.frames + 1)
		head, err := w.wholeHead(h)
		if err != nil {
			return 0, err
		}
		w.head = head
	}
	return links, nil
}

// wholeHead returns the log's head. Without it nothing of the log would be found again after a crash.
func (w *watch) wholeHead(h logHeader) ([]byte, error) {
	head := make([]byte, logHead)
	if _, err := w.log.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%s has been truncated: %w", w.log.Name(), err)
	}
	if int64(binary.NativeEndian.Uint64(head[16:])) != h.salt || !validHead(head) {
		return nil, fmt.Errorf("%s has been overwritten", w.log.Name())
	}
	return head, nil
}

// validHead reports whether the checksum in a log's head is that of the rest of it
// (https://www.sqlite.org/fileformat2.html, "Checksum Algorithm").
func validHead(head []byte) bool {
	const littleEndian = 0x377f0682 // bigEndian is one more
	var order binary.ByteOrder = binary.LittleEndian
	switch binary.BigEndian.Uint32(head) {
	case littleEndian:
	case littleEndian + 1:
		order = binary.BigEndian
	default:
		return false
	}
	var s0, s1 uint32
	for at := 0; at < 24; at += 8 {
		s0 += order.Uint32(head[at:]) + s1
		s1 += order.Uint32(head[at+4:]) + s0
	}
	return s0 == binary.BigEndian.Uint32(head[24:]) && s1 == binary.BigEndian.Uint32(head[28:])
}

// check looks at all of it, names too.
func (w *watch) check() error {
	if err := w.checkDatabase(); err != nil {
		return err
	}
	for _, f := range []*os.File{w.log, w.index} {
		if err := sameFile(f, f.Name()); err != nil {
			return err
		}
	}
	if err := w.wholeIndex(); err != nil {
		return err
	}
	_, err := w.wholeLog()
	return err
}

func (w *watch) wholeIndex() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, size, err := linksAndSize(w.index)
	if err != nil || size < w.indexSize {
		return errors.Join(fmt.Errorf("%s has been truncated", w.index.Name()), err)
	}
	w.indexSize = size
	return nil
}

// checkDatabase checks name and size of the database itself, which nothing here can do without.
func (w *watch) checkDatabase() error {
	if err := sameFile(w.db, w.path); err != nil {
		return fmt.Errorf("%w; put that very file back, with the files beside it, or restart the gateway to begin with what is there", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, size, err := linksAndSize(w.db)
	if err != nil {
		return err
	}
	var magic [16]byte
	if _, err := w.db.ReadAt(magic[:], 0); size > 0 && (err != nil || string(magic[:]) != databaseMagic) {
		w.cut = true
		return fmt.Errorf("%s has been overwritten; put its content back from a backup", w.path)
	}
	if size < w.size {
		// A VACUUM may have made it smaller: then so does its header (https://www.sqlite.org/fileformat.html, "In-header
		// database size").
		var b [32]byte
		if _, err := w.db.ReadAt(b[:], 0); err != nil && err != io.EOF {
			return err
		}
		page, pages := pageSize(b[:]), int64(binary.BigEndian.Uint32(b[28:]))
		if page == 0 || pages == 0 || page*pages > size {
			w.cut = true
			return fmt.Errorf("%s has been truncated; put its content back from a backup", w.path)
		}
	}
	w.size = size
	return nil
}

// endsWithPage refuses a database that ends within a page, as a copy that was cut does: SQLite would read what is missing as
// zeros. While there is a log or a journal, SQLite makes it whole by that.
func (w *watch) endsWithPage() error {
	for _, suffix := range []string{logSuffix, journalSuffix} {
		if info, err := os.Stat(w.path + suffix); err == nil && info.Size() > 0 {
			return nil
		}
	}
	info, err := w.db.Stat()
	var b [32]byte
	if err != nil || info.Size() < int64(len(b)) { // it is new, or SQLite says what is wrong with it
		return err
	}
	if _, err := w.db.ReadAt(b[:], 0); err != nil {
		return err
	}
	if page := pageSize(b[:]); string(b[:16]) == databaseMagic && page > 0 && info.Size()%page != 0 {
		return errors.New("the file has been cut: it ends within a page; restore it from a backup")
	}
	return nil
}

// pageSize returns the size of a database's pages by its header, which is in b (https://www.sqlite.org/fileformat.html, "Page
// Size").
func pageSize(b []byte) int64 {
	if page := int64(binary.BigEndian.Uint16(b[16:])); page != 1 {
		return page
	}
	return 64 << 10
}

// sameFile checks that a name is still that of an open file.
func sameFile(f *os.File, name string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s has been removed", name)
	case err != nil:
		return err
	case !os.SameFile(open, named):
		return fmt.Errorf("%s has been replaced by another file", name)
	}
	return nil
}
