package payload

import (
	"bytes"
	"testing"
)

// TestPlainLength has every byte at every place of a string.
func TestPlainLength(t *testing.T) {
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				b := bytes.Repeat([]byte{'a'}, size)
				b[at] = byte(c)
				want := size &^ 7
				if !plain[c] {
					want = min(want, at)
				}
				if got := plainLength(b); got != want {
					t.Fatalf("%d of %q", got, b)
				}
			}
		}
	}
}
