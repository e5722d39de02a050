package powercut

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// disk follows what a gateway does to the files below a folder, and knows of each what would certainly be there after a loss
// of power and what might be: content is certain once its file was synced after it, a name once its folder was. That is what
// POSIX promises and no more; most filesystems keep more.
type disk struct {
	root    *inode
	path    string
	handles map[string]*handle // by descriptor
	under   map[*call]any      // what a call under way is about
	// ignore leaves out syncs of some files, so that a test can show what comes of it.
	ignore func(name string, folder bool) bool
}

// inode is a file or a folder, whatever its name.
type inode struct {
	name    string // when it was made
	folder  bool
	content []byte            // of a file, as it was last synced
	size    int64             // of a file, now
	names   map[string]*inode // in a folder, now
	kept    map[string]*inode // in a folder, as it was last synced
	changes []*change         // since then
}

// change is one that may be lost: it was not synced yet.
type change struct {
	at       int64
	data     []byte
	truncate bool              // to at
	names    map[string]*inode // set in a folder, nil for those removed
	by       *call             // which may have changed two folders
	done     bool
}

type handle struct {
	*inode
	offset int64
	append bool
}

// newDisk returns the disk that is mounted at a path, with what is in a folder now, all of it synced.
func newDisk(content, path string) (*disk, error) {
	root, err := readInode(content)
	return &disk{root: root, path: path, handles: map[string]*handle{}, under: map[*call]any{}}, err
}

func readInode(path string) (*inode, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		content, err := os.ReadFile(path)
		return &inode{name: path, content: content, size: int64(len(content))}, err
	}
	n := newFolder(path)
	for _, e := range entries {
		child, err := readInode(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		n.names[e.Name()], n.kept[e.Name()] = child, child
	}
	return n, nil
}

func newFolder(path string) *inode {
	return &inode{name: path, folder: true, names: map[string]*inode{}, kept: map[string]*inode{}}
}

// processEnds names the moment at which a gateway ends. What it has not synced stays unsynced.
const processEnds = "exit"

// apply follows one moment.
func (d *disk) apply(m moment) error {
	var err error
	if m.ended {
		err = d.end(m.call)
	} else {
		err = d.begin(m.call)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m, err)
	}
	return nil
}

// begin notes what a call is going to do: from now on it may be on the disk, and a sync that has begun does not cover it.
func (d *disk) begin(c *call) error {
	h := d.handles[c.args[0]]
	switch c.name {
	case "write", "writev", "pwrite64", "pwritev", "pwritev2":
		if h == nil {
			return nil
		}
		ch := &change{at: h.offset, data: c.data}
		switch {
		case h.append:
			ch.at = h.size
		case c.name != "write" && c.name != "writev":
			at, err := strconv.ParseInt(c.args[3], 0, 64)
			if err != nil {
				return err
			}
			ch.at = at
		}
		h.changes = append(h.changes, ch)
		d.under[c] = ch
	case "ftruncate":
		if h == nil {
			return nil
		}
		size, err := strconv.ParseInt(c.args[1], 0, 64)
		if err != nil {
			return err
		}
		ch := &change{at: size, truncate: true}
		h.changes = append(h.changes, ch)
		d.under[c] = ch
	case "fsync", "fdatasync":
		if h != nil && (d.ignore == nil || !d.ignore(h.name, h.folder)) {
			d.under[c] = slices.DeleteFunc(slices.Clone(h.changes), func(ch *change) bool { return !ch.done })
		}
	case "close": // the number may be another's before the call has returned
		if h != nil {
			delete(d.handles, c.args[0])
		}
	}
	return nil
}

// end follows a call that has returned.
func (d *disk) end(c *call) error {
	under := d.under[c]
	delete(d.under, c)
	h := d.handles[c.args[0]]
	if ch, ok := under.(*change); ok {
		return h.changed(c, ch)
	}
	if c.result < 0 {
		return nil
	}
	switch c.name {
	case processEnds:
		// A write that was cut short by the end may have been done, but will not be done later, over what others write.
		for _, under := range d.under {
			if ch, ok := under.(*change); ok {
				ch.done = true
			}
		}
		clear(d.handles)
		clear(d.under)
	case "fsync", "fdatasync":
		if done, ok := under.([]*change); ok {
			h.synced(done)
		}
	case "lseek":
		if h != nil {
			h.offset = c.result
		}
	case "open", "openat", "creat":
		return d.open(c)
	case "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat":
		return d.renamed(c)
	case "mmap":
		// SQLite shares the index of its log between connections in this way. It is made anew after a crash.
		if h := d.handles[c.args[4]]; h != nil && !isIndex(h.name) && strings.Contains(c.args[3], "MAP_SHARED") && strings.Contains(c.args[2], "PROT_WRITE") {
			return errors.New("a file is written by memory, which is not followed")
		}
	case "dup", "dup2", "dup3", "fallocate", "sync_file_range", "copy_file_range", "sendfile", "splice":
		for _, arg := range c.args {
			if d.handles[arg] != nil {
				return errors.New("this call is not followed")
			}
		}
	case "truncate", "symlink", "symlinkat", "openat2", "close_range":
		return errors.New("this call is not followed")
	}
	return nil
}

func isIndex(name string) bool { return strings.HasSuffix(name, "-shm") }

// changed notes that a change of a file was done, as far as it was.
func (h *handle) changed(c *call, ch *change) error {
	if c.result < 0 {
		h.changes = slices.DeleteFunc(h.changes, func(other *change) bool { return other == ch })
		return nil
	}
	ch.done = true
	if ch.truncate {
		h.size = ch.at
		return nil
	}
	ch.data = ch.data[:c.result]
	h.size = max(h.size, ch.at+c.result)
	if c.name == "write" || c.name == "writev" {
		h.offset = ch.at + c.result
	}
	return nil
}

// synced applies the given changes to what is certain: they were done before the sync began.
func (n *inode) synced(done []*change) {
	certain := map[*change]bool{}
	for _, ch := range done {
		certain[ch] = true
	}
	n.changes = slices.DeleteFunc(n.changes, func(ch *change) bool {
		switch {
		case !certain[ch]:
			return false
		case n.folder:
			ch.setIn(n.kept)
		default:
			n.content = ch.write(n.content)
		}
		return true
	})
}

func (ch *change) setIn(names map[string]*inode) {
	for name, n := range ch.names {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

func (ch *change) write(content []byte) []byte {
	if ch.truncate {
		return resize(content, ch.at)
	}
	content = resize(content, max(int64(len(content)), ch.at+int64(len(ch.data))))
	copy(content[ch.at:], ch.data)
	return content
}

func resize(content []byte, size int64) []byte {
	if size <= int64(len(content)) {
		return content[:size:size] // so that what is cut never comes back
	}
	return append(content, make([]byte, size-int64(len(content)))...)
}

// open follows a call that has opened a file, or made one.
func (d *disk) open(c *call) error {
	at, path := c.args[0], c.args[1]
	var flags string
	switch c.name {
	case "open", "creat":
		at, path = "AT_FDCWD", c.args[0]
		flags = "O_CREAT|O_TRUNC"
		if c.name == "open" {
			flags = c.args[1]
		}
	default:
		flags = c.args[2]
	}
	folder, name := d.find(at, path)
	if folder == nil {
		return nil // it is elsewhere
	}
	if strings.Contains(flags, "O_TMPFILE") {
		return errors.New("this call is not followed")
	}
	n := folder.names[name]
	if name == "." {
		n = folder
	}
	if n == nil {
		if !strings.Contains(flags, "O_CREAT") {
			return errors.New("a file is opened that nobody has made")
		}
		n = &inode{name: filepath.Join(folder.name, name)}
		folder.set(c, map[string]*inode{name: n})
	}
	if strings.Contains(flags, "O_TRUNC") && n.size > 0 {
		n.size = 0
		n.changes = append(n.changes, &change{truncate: true, done: true})
	}
	d.handles[strconv.FormatInt(c.result, 10)] = &handle{inode: n, append: strings.Contains(flags, "O_APPEND")}
	return nil
}

// set changes names in a folder.
func (n *inode) set(c *call, names map[string]*inode) {
	ch := &change{names: names, by: c, done: true}
	ch.setIn(n.names)
	n.changes = append(n.changes, ch)
}

// find returns the folder that a path is in, nil if that is outside of the disk, and the last name of the path.
func (d *disk) find(at, path string) (*inode, string) {
	folder := d.root
	switch {
	case filepath.IsAbs(path):
		rest, inside := strings.CutPrefix(filepath.Clean(path), d.path)
		if !inside || rest != "" && rest[0] != filepath.Separator {
			return nil, ""
		}
		path = strings.TrimPrefix(rest, "/")
	case d.handles[at] != nil:
		folder, path = d.handles[at].inode, filepath.Clean(path)
	default:
		return nil, ""
	}
	if path == "" {
		return folder, "."
	}
	names := strings.Split(path, "/")
	for _, name := range names[:len(names)-1] {
		if folder = folder.names[name]; folder == nil {
			return nil, ""
		}
	}
	return folder, names[len(names)-1]
}

// renamed follows calls that change names.
func (d *disk) renamed(c *call) error {
	at, args := "AT_FDCWD", c.args
	if strings.HasSuffix(c.name, "at") || c.name == "renameat2" {
		at, args = c.args[0], c.args[1:]
	}
	folder, name := d.find(at, args[0])
	switch c.name {
	case "mkdir", "mkdirat":
		if folder != nil {
			folder.set(c, map[string]*inode{name: newFolder(filepath.Join(folder.name, name))})
		}
		return nil
	case "unlink", "unlinkat", "rmdir":
		if folder != nil {
			folder.set(c, map[string]*inode{name: nil})
		}
		return nil
	}
	at, args = "AT_FDCWD", args[1:]
	if strings.HasSuffix(c.name, "at") || c.name == "renameat2" {
		at, args = args[0], args[1:]
	}
	to, newName := d.find(at, args[0])
	if folder == nil && to == nil {
		return nil
	}
	if folder == nil || to == nil || c.name == "renameat2" && args[1] != "0" && args[1] != "RENAME_NOREPLACE" {
		return errors.New("this call is not followed")
	}
	n := folder.names[name]
	switch {
	case strings.HasPrefix(c.name, "link"):
		to.set(c, map[string]*inode{newName: n})
	case folder == to:
		folder.set(c, map[string]*inode{name: nil, newName: n})
	default:
		to.set(c, map[string]*inode{newName: n})
		folder.set(c, map[string]*inode{name: nil})
	}
	return nil
}
