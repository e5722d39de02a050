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
	narrowest = 6
)

// column is a column of a table.
type column struct {
	title string
	whole bool // never cut, as an id that is to be copied
	right bool // numbers
}

// table writes rows below the titles of their columns, so that no line is longer than width; 0 is no limit. The widest
// columns are cut first, and only those that may be. The last one is not padded.
func table(w io.Writer, width int, columns []column, rows [][]string) error {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = utf8.RuneCountInString(c.title)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	if width > 0 {
		fit(widths, columns, width-len(gap)*(len(columns)-1))
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	var b strings.Builder
	for _, row := range slices.Insert(rows, 0, titles) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cell = cut(cell, widths[i])
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].right {
				cell = padding + cell
			} else {
				cell += padding
			}
			cells[i] = cell
		}
		b.WriteString(strings.TrimRight(strings.Join(cells, gap), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit narrows the widest columns that may be cut until all together take no more than there is.
func fit(widths []int, columns []column, room int) {
	total := 0
	for _, w := range widths {
		total += w
	}
	for ; total > room; total-- {
		widest := -1
		for i, c := range columns {
			if !c.whole && !c.right && widths[i] > narrowest && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return // a terminal as narrow as this one wraps the lines
		}
		widths[widest]--
	}
}

// cut shortens a text to a width.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + ellipsis
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
