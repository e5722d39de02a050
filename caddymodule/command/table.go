package command

import (
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	gap      = "  " // between columns
	ellipsis = "…"
	// narrowest is how far a column may be cut. What is cut further says nothing.
	narrowest = 8
)

// column is a column of a table.
type column struct {
	title string
	whole bool // cut only where nothing else is left, as an id that is to be copied
	right bool // numbers, which are never cut
	spare int  // where the terminal is too narrow, the column with the highest is left out first; 0 always stays
}

// table writes rows below the titles of their columns, so that no line is longer than width; 0 is no limit. The widest
// columns are cut first, then the spare ones are left out, so that a cell is never wrapped. The last one is not padded.
func table(w io.Writer, width int, columns []column, rows [][]string) error {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	rows = slices.Insert(rows, 0, titles)
	natural := make([]int, len(columns))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
			natural[i] = max(natural[i], utf8.RuneCountInString(row[i]))
		}
	}
	widths := fit(natural, columns, width)
	var b strings.Builder
	for _, row := range rows {
		cells := make([]string, 0, len(row))
		for i, cell := range row {
			if widths[i] == 0 {
				continue
			}
			cell = cut(cell, widths[i])
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].right {
				cell = padding + cell
			} else {
				cell += padding
			}
			cells = append(cells, cell)
		}
		b.WriteString(strings.TrimRight(strings.Join(cells, gap), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit returns the widths of columns that together take no more than there is; 0 is a column that is left out.
func fit(natural []int, columns []column, width int) []int {
	widths := slices.Clone(natural)
	if width <= 0 || narrow(widths, width, narrowest, func(c int) bool { return !columns[c].whole && !columns[c].right }) {
		return widths
	}
	spare := -1
	for i, c := range columns {
		if natural[i] > 0 && c.spare > 0 && (spare < 0 || c.spare > columns[spare].spare) {
			spare = i
		}
	}
	if spare < 0 {
		narrow(widths, width, 1, func(c int) bool { return !columns[c].right })
		return widths
	}
	fewer := slices.Clone(natural)
	fewer[spare] = 0
	return fit(fewer, columns, width)
}

// narrow shortens the widest columns that may be cut, down to a least width, and reports whether all fit then.
func narrow(widths []int, width, least int, mayCut func(int) bool) bool {
	total := -len(gap)
	for _, w := range widths {
		if w > 0 {
			total += w + len(gap)
		}
	}
	for ; total > width; total-- {
		widest := -1
		for i, w := range widths {
			if mayCut(i) && w > least && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// cut shortens a text to a width.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + ellipsis
}

// printable makes one line of a text, without anything that a terminal would obey: senders and consumers write parts of what
// is shown.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "�")
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i := range lines {
		lines[i] = printable(strings.ReplaceAll(lines[i], "\t", "    "))
	}
	return strings.Join(lines, "\n")
}
