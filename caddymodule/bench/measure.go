package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// quantile sorts and returns the q-th quantile; zero of nothing.
func quantile[T int | float64 | time.Duration](all []T, q float64) T {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}

func median(all []float64) float64 { return quantile(all, .5) }

// side is one side of a comparison: it runs one round.
type side func() (sample, error)

// contender is a side with its name.
type contender struct {
	name string
	run  side
}

// compare runs the reference and all contenders by turns, and adds a row for each contender: with the medians, and the ratios
// to the reference of the same round.
func (b *bench) compare(what, target string, reference side, contenders ...contender) error {
	var refs []sample
	samples := make([][]sample, len(contenders))
	for round := range b.rounds {
		ref, err := reference()
		if err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		refs = append(refs, ref)
		for i, c := range contenders {
			s, err := c.run()
			if err != nil {
				return fmt.Errorf("product: %w", err)
			}
			note("%s%s, round %d: %.0f/s against %.0f/s, CPU %.0f µs against %.0f µs an event", what, c.name, round+1, s.rate, ref.rate, s.cpu, ref.cpu)
			samples[i] = append(samples[i], s)
		}
	}
	for i, c := range contenders {
		b.addSamples(what+c.name, target, refs, samples[i])
	}
	return nil
}

// addSamples adds a row.
func (b *bench) addSamples(what, target string, refs, prods []sample) {
	per := func(field func(sample) float64) (ref, prod, ratio float64) {
		var rs, ps, quotients []float64
		for i := range refs {
			r, p := field(refs[i]), field(prods[i])
			rs, ps = append(rs, r), append(ps, p)
			if r > 0 {
				quotients = append(quotients, p/r)
			}
		}
		return median(rs), median(ps), median(quotients)
	}
	rate, rated, faster := per(func(s sample) float64 { return s.rate })
	cpu, spent, dearer := per(func(s sample) float64 { return s.cpu })
	_, redis, _ := per(func(s sample) float64 { return s.redisCPU })
	_, bytes, _ := per(func(s sample) float64 { return s.bytes })
	_, allocations, _ := per(func(s sample) float64 { return s.allocations })
	_, together, _ := per(func(s sample) float64 { return s.perCommit })
	b.row(what, fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("%.0f/s", rated), fmt.Sprintf("%.2f", faster), target,
		fmt.Sprintf("%.0f µs", cpu), fmt.Sprintf("%.0f µs", spent), fmt.Sprintf("%.2f", dearer), fmt.Sprintf("%.0f µs", redis),
		fmt.Sprintf("%.0f", bytes), fmt.Sprintf("%.0f", allocations), fmt.Sprintf("%.1f", together))
}

// fsync measures for five seconds what one fsync of 4 KiB costs where the stores are, at so many a second: a disk is less even then
// than one that is kept busy.
func (b *bench) fsync(perSecond int) (p50, p99 time.Duration, err error) {
	f, err := os.Create(filepath.Join(b.dir, "fsync"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4<<10)
	next := time.NewTicker(time.Second / time.Duration(perSecond))
	defer next.Stop()
	var took []time.Duration
	for range 5 * perSecond {
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(start))
		<-next.C
	}
	return quantile(took, .5), quantile(took, .99), nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
