package command

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	barWidth = 24
	// redraw is how often a bar changes at most.
	redraw = 100 * time.Millisecond
)

// progress is a line that shows how far a long operation is: a bar, a count, the rate and the remaining time.
type progress struct {
	w     io.Writer // nil shows nothing
	width int       // of the terminal; 0 is no limit
	label string
	total int // 0 where it is not known
	began time.Time
	drawn time.Time
}

func newProgress(t terminal, label string, total int) *progress {
	p := &progress{label: label, total: total, began: time.Now()}
	if t.progress {
		p.w, p.width = t.err, widthOf(t.err)
	}
	return p
}

// show draws the line anew, unless it has just been drawn.
func (p *progress) show(done int) {
	now := time.Now()
	if p.w == nil || now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn = now
	_, _ = fmt.Fprint(p.w, "\r", p.line(done, now.Sub(p.began)), clearLine) // a bar that cannot be drawn is missed by nobody
}

// end removes the line.
func (p *progress) end() {
	if p.w != nil && !p.drawn.IsZero() {
		_, _ = fmt.Fprint(p.w, "\r", clearLine)
	}
}

// line returns what fits on one line, since a line that the terminal has wrapped cannot be drawn over: without its bar, and
// cut, if need be.
func (p *progress) line(done int, elapsed time.Duration) string {
	line := p.text(done, elapsed, true)
	if p.width > 0 && len(line) >= p.width {
		line = cut(p.text(done, elapsed, false), p.width-1)
	}
	return line
}

func (p *progress) text(done int, elapsed time.Duration, withBar bool) string {
	p.total = max(p.total, 0)
	perSecond := 0.
	if elapsed > 0 {
		perSecond = float64(done) / elapsed.Seconds()
	}
	if p.total == 0 {
		return fmt.Sprintf("%s %s  %s/s", p.label, thousands(done), thousands(int(perSecond)))
	}
	shown := min(done, p.total) // more may have come since they were counted
	bar := ""
	if withBar {
		filled := barWidth * shown / p.total
		bar = " [" + strings.Repeat("#", filled) + strings.Repeat(".", barWidth-filled) + "]"
	}
	line := fmt.Sprintf("%s%s %3d%%  %s/%s  %s/s", p.label, bar, 100*shown/p.total, thousands(shown), thousands(p.total), thousands(int(perSecond)))
	if perSecond > 0 {
		left := time.Duration(float64(p.total-shown) / perSecond * float64(time.Second))
		line += "  " + span(left) + " left"
	}
	return line
}

const clearLine = "\x1b[K"
