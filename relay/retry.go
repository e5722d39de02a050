package relay

import (
	"math"
	"math/rand/v2"
	"time"
)

// RetryPolicy sets how long to wait before each retry. A policy has Delays or is exponential; the zero policy never retries.
type RetryPolicy struct {
	// Delays before the first retry, the second, and so on.
	Delays []time.Duration
	// First and Longest bound exponential delays; Count is how many retries follow the first attempt.
	First, Longest time.Duration
	Count          int
}

// DefaultRetry is the provider's own rhythm: after 1, 5 and 15 minutes.
var DefaultRetry = RetryPolicy{Delays: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}}

// Retries is how many attempts may follow the first.
func (p RetryPolicy) Retries() int {
	if p.Count > 0 {
		return p.Count
	}
	return len(p.Delays)
}

// Delay is the wait before retry n, counted from 0; ok is false if there is no such retry. Exponential delays double
// from First to Longest and are spread over their upper half, so that what failed together does not come back together.
func (p RetryPolicy) Delay(n int) (d time.Duration, ok bool) {
	if n < 0 || n >= p.Retries() {
		return 0, false
	}
	if p.Count == 0 {
		return p.Delays[n], true
	}
	exact := float64(p.First) * math.Pow(2, float64(n)) // a float saturates where a shift would overflow
	d = p.Longest
	if exact < float64(p.Longest) {
		d = time.Duration(exact)
	}
	return d/2 + rand.N(d/2+1), true
}
