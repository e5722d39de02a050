package payload

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays of a body may be nested. gjson recurses without a bound, so nothing deeper
// may reach it.
const MaxDepth = 64

// A scan returns what follows the value it has checked, or one of these.
const (
	notJSON = -1 - iota
	notUTF8
	tooDeep
)

// refusal returns why a scan has refused a document; nil if it has not.
func refusal(end int) error {
	switch end {
	case notJSON:
		return ErrNotObject
	case notUTF8:
		return ErrInvalidUTF8
	case tooDeep:
		return ErrTooDeep
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanValue scans a value inside of some objects and arrays.
func scanValue(b []byte, i, depth int) int {
	if i == len(b) {
		return notJSON
	}
	switch b[i] {
	case '{', '[':
		return scanNested(b, i, depth+1)
	case '"':
		i, _ = scanString(b, i)
		return i
	}
	return scanScalar(b, i)
}

// scanNested scans an object or an array, which is at a depth.
func scanNested(b []byte, i, depth int) int {
	if depth > MaxDepth {
		return tooDeep
	}
	object, closing := b[i] == '{', b[i]+'}'-'{'
	if i = skipSpace(b, i+1); i < len(b) && b[i] == closing {
		return i + 1
	}
	for {
		if object {
			if i = scanKey(b, i); i < 0 {
				return i
			}
		}
		if i = scanValue(b, i, depth); i < 0 {
			return i
		}
		var ended bool
		if i, ended = scanBetween(b, i, closing); ended {
			return i
		}
	}
}

// scanKey scans the key of a member, up to the member's value.
func scanKey(b []byte, i int) int {
	if i == len(b) || b[i] != '"' {
		return notJSON
	}
	if i, _ = scanString(b, i); i < 0 {
		return i
	}
	if i = skipSpace(b, i); i == len(b) || b[i] != ':' {
		return notJSON
	}
	return skipSpace(b, i+1)
}

// scanBetween scans what follows a member of an object or an element of an array: a comma or the closing bracket, which
// ends it, as an error does.
func scanBetween(b []byte, i int, closing byte) (next int, ended bool) {
	i = skipSpace(b, i)
	switch {
	case i < len(b) && b[i] == ',':
		return skipSpace(b, i+1), false
	case i < len(b) && b[i] == closing:
		return i + 1, true
	}
	return notJSON, true
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// plainLength returns how many bytes of b up to the first that is not plain, or up to the last eight: it looks at eight at a time.
func plainLength(b []byte) (n int) {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote, backslash := x^'"'*ones, x^'\\'*ones
		// The high bit of a byte is set where the byte is below a space, a quote, a backslash, or not ASCII. A borrow from such
		// a byte may set those behind it, too, but none before it.
		if special := ((x - ' '*ones) | (quote - ones) | (backslash - ones) | x) & high; special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	return n
}

// scanString scans the string that opens at b[i], and reports whether it has escapes.
func scanString(b []byte, i int) (end int, escaped bool) {
	for i++; ; {
		i += plainLength(b[i:])
		for i < len(b) && plain[b[i]] {
			i++
		}
		switch {
		case i == len(b):
			return notJSON, false
		case b[i] == '"':
			return i + 1, escaped
		case b[i] == '\\':
			escaped = true
			if i = scanEscape(b, i+1); i < 0 {
				return i, false
			}
		case b[i] < utf8.RuneSelf: // a control character
			return notJSON, false
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				return notUTF8, false
			}
			i += size
		}
	}
}

// scanEscape scans what follows a backslash.
func scanEscape(b []byte, i int) int {
	if i == len(b) {
		return notJSON
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if len(b)-i < 5 {
			return notJSON
		}
		for _, c := range b[i+1 : i+5] {
			if !isDigit(c) && (c|0x20 < 'a' || 'f' < c|0x20) {
				return notJSON
			}
		}
		return i + 5
	}
	return notJSON
}

// scanScalar scans a number, true, false or null.
func scanScalar(b []byte, i int) int {
	var word string
	switch b[i] {
	case 't':
		word = "true"
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	default:
		return scanNumber(b, i)
	}
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return notJSON
	}
	return i + len(word)
}

func scanNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = scanDigits(b, i); i < 0 {
		return i
	}
	if i < len(b) && b[i] == '.' {
		if i = scanDigits(b, i+1); i < 0 {
			return i
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		i = scanDigits(b, i)
	}
	return i
}

// scanDigits scans one digit or more.
func scanDigits(b []byte, i int) int {
	start := i
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i == start {
		return notJSON
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
