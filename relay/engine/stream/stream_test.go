package stream

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

func watch(t *testing.T, h *Hub) *Watcher {
	t.Helper()
	w, err := h.Watch()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Every watcher sees all that is published while it watches, in order.
func TestEveryWatcherSeesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		h.Publish(Item{EventID: "before"})
		const items = ringSize / 2
		var watchers sync.WaitGroup
		for range MaxWatchers {
			w := watch(t, &h)
			watchers.Go(func() {
				defer w.Close()
				var got []*Entry
				for len(got) < items {
					var err error
					if got, err = w.Next(t.Context(), got, 100); err != nil {
						t.Error(err)
						return
					}
				}
				for i, item := range got {
					if item.EventID != strconv.Itoa(i) {
						t.Errorf("item %d is %s", i, item.EventID)
						return
					}
				}
			})
		}
		if _, err := h.Watch(); !errors.Is(err, ErrFull) {
			t.Errorf("one watcher more: %v", err)
		}
		synctest.Wait() // all of them wait
		for i := range items {
			h.Publish(Item{EventID: strconv.Itoa(i)})
		}
		watchers.Wait()
		if h.Watched() || h.ring != nil {
			t.Error("memory is used without a watcher")
		}
	})
}

func TestWatcherFallsBehind(t *testing.T) {
	var h Hub
	slow := watch(t, &h)
	defer slow.Close()
	for range ringSize {
		h.Publish(Item{})
	}
	if slow.Behind() {
		t.Error("behind with a full ring")
	}
	h.Publish(Item{EventID: "last"})
	if items, err := slow.Next(t.Context(), nil, 10); !errors.Is(err, ErrBehind) || len(items) > 0 || !slow.Behind() {
		t.Errorf("%d items, %v", len(items), err)
	}
	slow.Skip()
	h.Publish(Item{EventID: "next"})
	if items, err := slow.Next(t.Context(), nil, 10); err != nil || len(items) != 1 || items[0].EventID != "next" {
		t.Errorf("%v, %v", items, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if items, err := slow.Next(ended, nil, 10); !errors.Is(err, context.Canceled) || len(items) > 0 {
		t.Errorf("%v, %v", items, err)
	}
}

// The hub remembers in which order the last events were published, also while nobody watches.
func TestOvertaken(t *testing.T) {
	var h Hub
	accept := func(seq int) { h.Publish(Item{Kind: Accepted, EventID: strconv.Itoa(seq), Seq: int64(seq)}) }
	accept(1)
	h.Remember()
	for _, seq := range []int{20, 5, 30, 10, 25, 40} {
		accept(seq)
		h.Publish(Item{Kind: Delivered, EventID: strconv.Itoa(seq)})
	}
	want := func(seq int, late map[string]int64) {
		t.Helper()
		if got, known := h.Overtaken(strconv.Itoa(seq), int64(seq)); known != (late != nil) || !maps.Equal(got, late) {
			t.Errorf("after %d: %v, known: %v, want %v", seq, got, known, late)
		}
	}
	want(1, nil)
	want(20, map[string]int64{"5": 5, "10": 10})
	want(30, map[string]int64{"10": 10, "25": 25})
	want(40, map[string]int64{})
	for i := range ringSize - 3 {
		accept(100 + i)
	}
	want(30, nil)
	want(10, map[string]int64{})
	accept(6)
	want(10, nil)
	want(25, map[string]int64{"6": 6})
	if len(h.order) != ringSize {
		t.Errorf("remembers %d", len(h.order))
	}
}

// BenchmarkPublish shows what an item costs a lane.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, MaxWatchers} {
		b.Run(strconv.Itoa(n)+" watchers", func(b *testing.B) {
			var h Hub
			for range n {
				w, err := h.Watch()
				if err != nil {
					b.Fatal(err)
				}
				defer w.Close()
			}
			b.ReportAllocs()
			for b.Loop() {
				if h.Watched() {
					h.Publish(Item{Kind: Accepted, EventID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Source: "vocals", TaskID: "task"})
				}
			}
		})
	}
}
