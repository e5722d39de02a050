package payload

import (
	"errors"
	"fmt"
	"strings"
)

// CheckPath says whether path may be configured: a gjson path of keys, indexes, #, wildcards and queries. Modifiers,
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

// part is one part of a path, as it is written there.
type part string

// pathPart gives part n of a path; ok is false where the path has no such part, or a part that is not plain stands
// before or at it.
func pathPart(path string, n int) (_ part, ok bool) {
	start := 0
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			i++
		case '.':
			if n == 0 {
				return part(path[start:i]), true
			}
			n--
			start = i + 1
		case '*', '?', '|', '(':
			return "", false
		case '@', '!', '{', '[':
			if i == start {
				return "", false
			}
		}
	}
	return part(path[start:]), n == 0
}

// isKey compares with a key, without the backslashes that the path needs.
func (p part) isKey(key []byte) bool {
	if strings.IndexByte(string(p), '\\') < 0 {
		return string(p) == string(key)
	}
	k := 0
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' && i+1 < len(p) {
			i++
		}
		if k == len(key) || p[i] != key[k] {
			return false
		}
		k++
	}
	return k == len(key)
}
