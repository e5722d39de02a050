package command

import (
	"strings"
	"unicode/utf8"
)

// wrap breaks a text between its words into lines that end at width, and indents all but the first, which begins there
// already. 0 is no limit. A word that is longer than a line, such as a path that is to be copied, stays whole.
func wrap(text string, indent, width int) string {
	if width <= 0 {
		return text
	}
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
