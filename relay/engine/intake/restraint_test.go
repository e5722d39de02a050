package intake

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Of many lines about one source and reason the first are logged, and the others are counted: nothing is lost of how many there were.
func TestRestraint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r restraint
		var sums []int
		lines := func(of reason, n int) (logged int) {
			for range n {
				if r.allow(of, func(held int) { sums = append(sums, held) }) {
					logged++
				}
			}
			return logged
		}
		denied, invalid := reason{"vocals", "address_not_allowed"}, reason{"vocals", "invalid_body"}
		if n := lines(denied, 25); n != linesEach {
			t.Errorf("%d lines by themselves", n)
		}
		if n := lines(invalid, 1); n != 1 {
			t.Error("another reason is held back with the first")
		}
		<-time.After(lineEvery - time.Second)
		lines(denied, 5)
		synctest.Wait()
		if sums != nil {
			t.Errorf("summed up early: %v", sums)
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if !slices.Equal(sums, []int{20}) {
			t.Errorf("summed up as %v", sums)
		}
		if n := lines(denied, linesEach+3); n != linesEach {
			t.Errorf("%d lines of the next minute", n)
		}
		if r.stop(); !slices.Equal(sums, []int{20, 3}) {
			t.Errorf("after the stop %v", sums)
		}
		if n := lines(denied, 100); n != 100 {
			t.Errorf("after the stop %d lines", n)
		}
	})
}
