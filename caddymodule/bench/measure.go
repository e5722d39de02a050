package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// quantile sorts and gives the q-th quantile; zero of nothing.
func quantile[T int | float64 | time.Duration](all []T, q float64) T {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}

func median(all []float64) float64 { return quantile(all, .5) }

// side is one side of a comparison: it runs one round and gives its rate.
type side func() (float64, error)

// compare runs both sides by turns and gives the median of each.
func (b *bench) compare(name string, reference, product side) (ref, prod float64, err error) {
	var refs, prods []float64
	for round := range b.rounds {
		r, err := reference()
		if err != nil {
			return 0, 0, fmt.Errorf("reference: %w", err)
		}
		p, err := product()
		if err != nil {
			return 0, 0, fmt.Errorf("product: %w", err)
		}
		note("%s, round %d: %.0f/s against %.0f/s", name, round+1, p, r)
		refs, prods = append(refs, r), append(prods, p)
	}
	return median(refs), median(prods), nil
}

// addRates adds a comparison to the table.
func (b *bench) addRates(what string, ref, prod float64, target string) {
	b.row(what, fmt.Sprintf("%.0f/s", ref), fmt.Sprintf("%.0f/s", prod), fmt.Sprintf("%.2f", prod/ref), target)
}

// fsync measures what one fsync of 4 KiB costs where the stores are.
func (b *bench) fsync() (p50, p99 time.Duration, err error) {
	f, err := os.Create(filepath.Join(b.dir, "fsync"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4<<10)
	var took []time.Duration
	for range 300 {
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(start))
	}
	return quantile(took, .5), quantile(took, .99), nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
