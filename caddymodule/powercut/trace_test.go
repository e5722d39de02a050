package powercut

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// traced are the system calls that change a disk or make changes durable, and those that show which file a descriptor is.
// A question mark has strace leave out what an architecture does not have. The calls that the disk has no model of are
// here so that their use is noticed.
const traced = "?open,openat,?openat2,?creat,close,write,pwrite64,writev,pwritev,?pwritev2,lseek,ftruncate,truncate," +
	"?rename,renameat,?renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,fsync,fdatasync," +
	"dup,?dup2,dup3,?close_range,mmap,msync,fallocate,copy_file_range,sendfile,splice,?symlink,symlinkat,sync_file_range"

// call is one system call of the gateway.
type call struct {
	number int // in the order of their beginnings
	thread string
	name   string
	args   []string
	data   []byte // what it writes
	result int64  // negative if it failed or never returned
}

// moment is the beginning or the end of a system call. Moments are in the order in which strace saw them: whatever a
// gateway did because a call had returned begins after the end of that call.
type moment struct {
	*call
	ended bool
}

func (m moment) String() string {
	if !m.ended {
		return fmt.Sprintf("%d: %s begins %s(%s)", m.number, m.thread, m.name, strings.Join(m.args, ", "))
	}
	return fmt.Sprintf("%d: %s ends %s(%s) = %d", m.number, m.thread, m.name, strings.Join(m.args, ", "), m.result)
}

// readTrace reads what `strace -f -xx -o` has written. Calls are numbered from a number on.
func readTrace(file string, number int) ([]moment, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 1<<20)
	under := map[string]*call{} // way, by thread
	var moments []moment
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 {
			return moments, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s ends within a line", file)
		}
		thread, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		rest = bytes.TrimLeft(rest, " ")
		switch {
		case bytes.HasPrefix(rest, []byte("+++")), bytes.HasPrefix(rest, []byte("---")):
			continue // the end of a thread, or a signal
		case bytes.HasPrefix(rest, []byte("<... ")):
			c := under[string(thread)]
			if c == nil {
				return nil, fmt.Errorf("a call is resumed that was not begun: %.200s", line)
			}
			delete(under, string(thread))
			c.result = result(rest)
			moments = append(moments, moment{c, true})
		default:
			c, err := parseCall(string(thread), rest)
			if err != nil {
				return nil, err
			}
			c.number = number + len(moments)
			moments = append(moments, moment{c, false})
			if bytes.HasSuffix(rest, []byte(" ...>")) {
				under[c.thread] = c
				continue
			}
			c.result = result(rest)
			moments = append(moments, moment{c, true})
		}
	}
}

// result returns what a call has returned; -1 for errors of all kinds.
func result(line []byte) int64 {
	at := bytes.LastIndex(line, []byte(") = "))
	if at < 0 {
		at = bytes.LastIndex(line, []byte("= ")) - 2 // aligned: ")      = 0"
	}
	text, _, _ := strings.Cut(string(line[at+4:]), " ")
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		return -1 // "?": it was interrupted, or the process has ended
	}
	return n
}

// parseCall parses the name and the arguments of a call.
func parseCall(thread string, line []byte) (*call, error) {
	name, rest, ok := bytes.Cut(line, []byte("("))
	if !ok {
		return nil, fmt.Errorf("no call: %.200s", line)
	}
	c := &call{thread: thread, name: string(name), result: -1}
	if strings.Contains(c.name, "write") {
		var err error
		if c.data, rest, err = written(rest); err != nil {
			return nil, fmt.Errorf("%w: %.200s", err, line)
		}
	}
	if end := bytes.LastIndex(rest, []byte(") ")); end >= 0 {
		rest = rest[:end]
	}
	rest, _, _ = bytes.Cut(rest, []byte("<")) // unfinished, or detached when the process is killed
	for arg := range strings.SplitSeq(string(rest), ", ") {
		arg = strings.TrimSpace(arg)
		if strings.HasPrefix(arg, `"`) {
			text, err := unescape([]byte(strings.Trim(arg, `"`)))
			if err != nil {
				return nil, fmt.Errorf("%w: %.200s", err, line)
			}
			arg = string(text)
		}
		c.args = append(c.args, arg)
	}
	return c, nil
}

// written returns the texts in the arguments of a write, and the arguments without them, which are short.
func written(args []byte) (data, rest []byte, err error) {
	rest = make([]byte, 0, 64)
	for {
		before, after, ok := bytes.Cut(args, []byte(`"`))
		rest = append(rest, before...)
		if !ok {
			return data, rest, nil
		}
		text, after, ok := bytes.Cut(after, []byte(`"`))
		if !ok || bytes.HasPrefix(after, []byte("...")) {
			return nil, nil, fmt.Errorf("what is written has been cut")
		}
		part, err := unescape(text)
		if err != nil {
			return nil, nil, err
		}
		data = append(data, part...)
		args = after
	}
}

// unescape converts "\x6a\x6b" to the bytes that it stands for.
func unescape(text []byte) ([]byte, error) {
	if len(text)%4 != 0 {
		return nil, fmt.Errorf("no text of strace -xx")
	}
	b := make([]byte, len(text)/4)
	for i := range b {
		high, low := digits[text[4*i+2]], digits[text[4*i+3]]
		if text[4*i] != '\\' || high < 0 || low < 0 {
			return nil, fmt.Errorf("no text of strace -xx")
		}
		b[i] = byte(high<<4 | low)
	}
	return b, nil
}

// digits are the values of hexadecimal digits; negative for other characters.
var digits = func() (d [256]int16) {
	for i := range d {
		d[i] = -1
	}
	for i, c := range "0123456789abcdef" {
		d[c] = int16(i)
	}
	return d
}()
