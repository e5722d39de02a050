package fakeprovider

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"
)

// File is a file that the server serves.
type File struct {
	URL     string
	content content // without a fault
}

// Size returns the file's size in bytes.
func (f File) Size() int64 { return f.content.size }

// SHA256 returns the hash of the file in hex.
func (f File) SHA256() string {
	sum := sha256.New()
	_, _ = io.Copy(sum, &f.content) // neither fails
	return hex.EncodeToString(sum.Sum(nil))
}

func (s *Server) filesOf(t *task) (list []File) {
	for _, name := range t.api.files {
		list = append(list, File{t.urls[name], *s.content(t.id, name, 0)})
	}
	return list
}

// content is an endless stream of bytes that follow from a seed, cut at size.
type content struct {
	seed      uint64
	size, off int64
}

func (s *Server) content(id, name string, version uint64) *content {
	sum := fnv.New64a()
	_, _ = io.WriteString(sum, id+"/"+name) // it never fails
	return &content{seed: word(s.opts.Seed^sum.Sum64(), version), size: s.opts.FileSize}
}

// word returns the nth word of a seed's stream. It is SplitMix64.
func word(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (n int, err error) {
	if c.off >= c.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.size-c.off)]
	var w [8]byte
	for n < len(p) {
		next := word(c.seed, uint64(c.off/8))
		if c.off%8 == 0 && len(p)-n >= len(w) {
			binary.LittleEndian.PutUint64(p[n:], next)
			n += len(w)
			c.off += int64(len(w))
			continue
		}
		binary.LittleEndian.PutUint64(w[:], next)
		k := copy(p[n:], w[c.off%8:])
		n += k
		c.off += int64(k)
	}
	return n, nil
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.off
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("a position before the beginning")
	}
	c.off = offset
	return offset, nil
}

// types are the media types of all files, by the ends of their names.
var types = map[string]string{
	".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".png": "image/png", ".wav": "audio/wav",
}

// metadata is where a cloud's hosts learn their secrets: no server may be led there.
const metadata = "http://169.254.169.254/latest/meta-data/"

func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	id, name := r.PathValue("task"), r.PathValue("name")
	fault, before, ok := s.serve(r.URL.Path, name)
	if !ok || fault == FaultMissing {
		http.NotFound(w, r)
		return
	}
	var version uint64
	if fault == FaultChanged && before > 0 {
		version = 1
	}
	c := s.content(id, name, version)
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Header().Set("ETag", `"`+strconv.FormatUint(c.seed, 16)+`"`)
	half := c.size / 2
	switch {
	case fault == FaultText:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<p>This is no file.</p>") // a client that hangs up needs none
	case fault == FaultRedirect:
		http.Redirect(w, r, metadata, http.StatusFound)
	case fault == FaultEndless:
		c.size = 1 << 62
		_, _ = io.Copy(w, c) // it ends when the client hangs up
	case fault == FaultStall:
		part(w, c, half, c.size)
		select {
		case <-r.Context().Done():
		case <-s.ctx.Done():
		}
	case fault == FaultShort:
		part(w, c, half, c.size)
		panic(http.ErrAbortHandler)
	case (fault == FaultCut || fault == FaultChanged) && before == 0:
		part(w, c, half, c.size)
		panic(http.ErrAbortHandler)
	default:
		http.ServeContent(w, r, name, time.Time{}, c)
	}
}

// serve returns the fault of a file, and how often it was asked for before.
func (s *Server) serve(file, name string) (fault Fault, before int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.files[file]
	if t == nil {
		return "", 0, false
	}
	before = t.served[name]
	t.served[name]++
	return t.fate.Fault, before, true
}

// part sends the first bytes of a file of an announced size.
func part(w http.ResponseWriter, c *content, first, size int64) {
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.CopyN(w, c, first)              // a client that hangs up needs no more
	_ = http.NewResponseController(w).Flush() // likewise
}

func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
