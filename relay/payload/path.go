package payload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// CheckPath returns an error unless path may be configured: a gjson path of keys, indexes, #, wildcards and queries. Modifiers,
// literals, multipaths and JSON lines are refused, since some of them multiply what the sender wrote; so are pipes, of
// which a configured path has no need. A key that holds one of those characters is written with a backslash before it.
func CheckPath(path string) error {
	if path == "" {
		return errors.New("a gjson path must not be empty")
	}
	parens := 0
	start := true // of a part
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			if i++; i == len(path) {
				return fmt.Errorf("gjson path %q: nothing follows the last backslash", path)
			}
		case c == '.' && (start || i == len(path)-1):
			return fmt.Errorf("gjson path %q: a part between dots is empty", path)
		case start && strings.IndexByte("@!{[", c) >= 0:
			return fmt.Errorf(`gjson path %q: modifiers, literals and multipaths are not allowed; a key that begins with %c is written \%c`, path, c, c)
		case c == '|':
			return fmt.Errorf(`gjson path %q: pipes are not allowed; a key that holds one is written with \|`, path)
		case c == '(':
			parens++
		case c == ')':
			parens--
		}
		if parens < 0 {
			break
		}
		start = c == '.' || c == '(' || c == '[' // a query is written in either
	}
	if parens != 0 {
		return fmt.Errorf("gjson path %q: its parentheses do not match", path)
	}
	return nil
}

// part is one part of a path.
type part struct {
	path  string // from this part on
	name  string // a key, without the backslashes that the path needs
	index int    // of an array's element; -1: it is a key only
	each  bool   // #: every element of an array
	odd   bool   // # and more, which gjson alone understands
}

// splitPath returns the parts of a path up to the first that is not plain, a query or a wildcard, and the rest from there.
func splitPath(path string) (parts []part, rest string) {
	for path != "" {
		p := part{path: path, index: -1}
		var name []byte
		escaped := false
		i := 0
	scan:
		for ; i < len(path); i++ {
			switch c := path[i]; c {
			case '.':
				break scan
			case '*', '?', '|', '(':
				return parts, path
			case '@', '!', '{', '[':
				if i == 0 {
					return parts, path
				}
			case '#':
				p.odd = true
			case '\\':
				if escaped = true; i+1 < len(path) {
					i++
				}
			}
			name = append(name, path[i])
		}
		p.name = string(name)
		if p.each = p.name == "#" && !escaped; p.each {
			p.odd = false
		} else if n, err := strconv.ParseUint(p.name, 10, 31); err == nil {
			p.index = int(n)
		}
		parts, path = append(parts, p), path[min(i+1, len(path)):]
	}
	return parts, ""
}
