package main

import (
	"errors"
	"fmt"
)

// further measures fan-outs to some destinations and to many by turns, and what each of those that only the latter have costs
// the gateway. Both send the same number of callbacks, so few that none of their deliveries waits in a row of its own.
func (b *bench) further(c binary) (err error) {
	const some, many = 10, 30
	fewer := *b
	fewer.callbacks = b.callbacks * fanned / many
	var reference side
	var contenders []contender
	samples := map[int][]sample{}
	for _, n := range []int{some, many} {
		b.folders++
		f, failed := fewer.newFan(c.path, n, sqlite, fmt.Sprintf("further-%d", b.folders))
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, f.close()) }()
		reference = f.proxied
		contenders = append(contenders, contender{fmt.Sprintf("1 → %d deliveries, settled%s", n, c.name), func() (sample, error) {
			s, err := f.delivered()
			samples[n] = append(samples[n], s)
			return s, err
		}})
	}
	var proxied []float64
	refer := func() (sample, error) {
		s, err := reference()
		proxied = append(proxied, s.cpu)
		return s, err
	}
	if err := b.compare("", "", refer, contenders...); err != nil {
		return err
	}
	var cpu, ratio, bytes []float64
	for round, s := range samples[some] {
		m := samples[many][round]
		each := (m.cpu - s.cpu) / (many - some)
		cpu, bytes = append(cpu, each), append(bytes, (m.bytes-s.bytes)/(many-some))
		ratio = append(ratio, each/proxied[round])
	}
	b.row("  each further destination"+c.name, "", "", "", "≤ 20 µs where a proxied request takes 95, ≤ 200 bytes",
		fmt.Sprintf("%.0f µs", median(proxied)), fmt.Sprintf("%.0f µs", median(cpu)), fmt.Sprintf("%.2f", median(ratio)), "",
		fmt.Sprintf("%.0f", median(bytes)), "", "")
	return nil
}
