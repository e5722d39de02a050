package archive

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// origin converts indexes of a document into those of the body that it comes from. The indexes must ascend, so that all of
// them together cost one pass.
type origin struct {
	outer   *origin // of the document whose string holds this one; nil: the body holds it as it is
	start   int     // in the outer document, or in the body
	written []byte  // the string without its quotes
	passed  int     // how much of written has been passed
	said    int     // how much of this document that is
}

// at returns where the byte i of the document is written in the body.
func (o *origin) at(i int) int {
	if o.outer == nil {
		return o.start + i
	}
	for o.said < i && o.passed < len(o.written) {
		written, said := 1, 1
		if o.written[o.passed] == '\\' {
			written, said = escape(o.written[o.passed:])
		}
		o.passed, o.said = o.passed+written, o.said+said
	}
	return o.outer.at(o.start + o.passed)
}

// escape returns how many bytes the escape at the beginning of s has, and how many bytes of UTF-8 it stands for. s is valid
// JSON.
func escape(s []byte) (written, said int) {
	if s[1] != 'u' {
		return 2, 1
	}
	r := escaped(s)
	if !utf16.IsSurrogate(r) {
		return 6, utf8.RuneLen(r)
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' && utf16.DecodeRune(r, escaped(s[6:])) != utf8.RuneError {
		return 12, utf8.UTFMax
	}
	return 6, utf8.RuneLen(utf8.RuneError) // encoding/json replaces half of a pair
}

// escaped returns the UTF-16 unit of an escape such as \u00e9.
func escaped(s []byte) rune {
	n, _ := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n)
}
