package intake

import (
	"testing"
	"time"
)

// fill opens the rooms of n bodies of a source, each with size bytes, and returns how many have been ended.
func fill(t *testing.T, b *budget, source string, n int, size int64) (rooms []*room, ended *int) {
	t.Helper()
	ended = new(int)
	for range n {
		r := b.open(source, time.Time{}, func() { *ended++ })
		if !r.grow(size) {
			t.Fatalf("a body of %s got no room", source)
		}
		rooms = append(rooms, r)
	}
	return rooms, ended
}

func TestBudgetTakesFromTheGreediest(t *testing.T) {
	b := newBudget(1000, nil)
	_, quiet := fill(t, b, "quiet", 2, 50)
	strangers, ended := fill(t, b, "strangers", 90, 10)

	if !strangers[0].grow(0) { // it has just grown: it is not the slowest any more
		t.Fatal("no room for nothing")
	}
	r := b.open("quiet", time.Time{}, func() { t.Error("the body that needs room was ended") })
	if !r.grow(25) {
		t.Error("a quiet source found no room")
	}
	if *ended != 3 || *quiet != 0 {
		t.Errorf("ended %d bodies of strangers and %d others, want 3 and 0", *ended, *quiet)
	}
	if strangers[0].close() || !strangers[1].close() {
		t.Error("ended was the first body, which had grown last, or not the second")
	}
	if strangers[1].grow(1) {
		t.Error("a body that was ended has grown")
	}
}

func TestBudgetOfTheGreediestItself(t *testing.T) {
	b := newBudget(1000, nil)
	mine, ended := fill(t, b, "mine", 2, 400)
	if !mine[1].grow(200) {
		t.Error("800 of 1000 are used, and 200 more were refused")
	}
	if !mine[1].grow(100) || *ended != 1 || !mine[0].close() {
		t.Error("the slower body of the same source did not go first")
	}
	if mine[1].grow(1000) {
		t.Error("a body has more room than there is")
	}
	if mine[1].close(); b.total != 0 || b.sources["mine"].total != 0 {
		t.Errorf("%d bytes are used by nobody", b.total)
	}
}

// A body may be given more time for as long as it was not told to end.
func TestRoomUntil(t *testing.T) {
	b := newBudget(1000, func(err error) { t.Error(err) })
	defer b.overdue.Stop()
	by := time.Now().Add(time.Hour)
	r := b.open("slow", by, func() {})
	r.until(by.Add(time.Second))
	if late, waiting := b.late(by); len(late) != 0 || !waiting {
		t.Errorf("%d are late before their time", len(late))
	}
	if late, _ := b.late(by.Add(time.Second)); len(late) != 1 {
		t.Errorf("%d are late after it", len(late))
	}
	r.until(by.Add(time.Hour))
	if late := r.whole(); !late {
		t.Error("a body that was told to end was given more time")
	}
}

// TestRoomIsNotToldAfterItsEnd has a server give the request of a body to somebody else as soon as its room is closed.
func TestRoomIsNotToldAfterItsEnd(t *testing.T) {
	b := newBudget(1000, func(err error) { t.Error(err) })
	defer b.overdue.Stop()
	by := time.Now().Add(time.Hour)
	told := 0
	var slow *room
	slow = b.open("slow", by, func() {
		if told++; slow.ending.TryLock() {
			t.Error("a room can be closed while its body is told to end")
		}
	})
	gone := b.open("gone", by, func() { t.Error("a body was told to end after its room was closed") })
	late, _ := b.late(by)
	gone.close()
	for _, r := range late {
		r.tell()
	}
	if len(late) != 2 || told != 1 {
		t.Errorf("of %d late bodies %d were told to end, want 1 of 2", len(late), told)
	}
}
