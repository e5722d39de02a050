package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// copyJSON copies JSON, and writes what a terminal might obey as an escape, which says the same: JSON itself escapes the
// control characters of ASCII alone, and senders write parts of what is shown. It ends with the first error of either side.
func copyJSON(w io.Writer, r io.Reader) error {
	in, out := bufio.NewReaderSize(r, 32<<10), bufio.NewWriterSize(w, 32<<10)
	for {
		c, size, err := in.ReadRune()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, out.Flush())
		}
		switch high, low := utf16.EncodeRune(c); {
		case c == utf8.RuneError && size == 1: // no UTF-8, and so no JSON
			_, err = out.WriteString(`\ufffd`)
		case c == '\n' || c == '\r' || c == '\t' || unicode.IsPrint(c):
			_, err = out.WriteRune(c)
		case high == unicode.ReplacementChar:
			_, err = fmt.Fprintf(out, `\u%04x`, c)
		default:
			_, err = fmt.Fprintf(out, `\u%04x\u%04x`, high, low)
		}
		if err == nil && in.Buffered() == 0 { // more may take long to come
			err = out.Flush()
		}
		if err != nil {
			return err
		}
	}
}
