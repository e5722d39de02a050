package main

import (
	"bytes"
	"fmt"
	"html"
	"time"
)

// The size of a chart and of the margins around it, in pixels.
const (
	chartWide, chartHigh = 300, 110
	chartLeft, chartTop  = 56, 34
	chartsAcross         = 2
)

// draw returns the readings as an SVG, with a chart for each value. Its colours are legible on light and on dark pages.
func (w *watch) draw(store string, perSecond int) []byte {
	var svg bytes.Buffer
	const cellWide, cellHigh = chartWide + chartLeft + 24, chartHigh + chartTop + 28
	rows := (len(soaked) + chartsAcross - 1) / chartsAcross
	end := w.readings[len(w.readings)-1].at
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#808080">`+"\n",
		chartsAcross*cellWide, rows*cellHigh+28)
	fmt.Fprintf(&svg, `<text x="8" y="18" font-size="14">%s: %d events/s for %s, a consumer down %s of every %s</text>`+"\n",
		html.EscapeString(store), perSecond, end.Round(time.Minute), soakDown, soakUp+soakDown)
	for i, name := range soaked {
		x, y := i%chartsAcross*cellWide+chartLeft, i/chartsAcross*cellHigh+chartTop+28
		highest := max(1, w.highest(i))
		fmt.Fprintf(&svg, `<text x="%d" y="%d">%s</text>`+"\n", x, y-8, html.EscapeString(name))
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%.0f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n", x-6, y+10, highest, x-6, y+chartHigh)
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%.0f min</text>`+"\n", x+chartWide, y+chartHigh+16, end.Minutes())
		fmt.Fprintf(&svg, `<path d="M%d %dv%dh%d" fill="none" stroke="#808080"/>`+"\n", x, y, chartHigh, chartWide)
		svg.WriteString(`<polyline fill="none" stroke="#2f81f7" stroke-width="1.5" points="`)
		for _, r := range w.readings {
			fmt.Fprintf(&svg, "%.1f,%.1f ", float64(x)+chartWide*r.at.Seconds()/end.Seconds(), float64(y)+chartHigh*(1-r.values[i]/highest))
		}
		svg.WriteString(`"/>` + "\n")
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}
