package intake

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func reject1(source, code, id string, body int) *rejected {
	return &rejected{Rejected: Rejected{ID: id, Source: source, Code: code, Body: make([]byte, body), Kept: true}}
}

// TestRejectionsAreBounded lets strangers push out nothing but their own.
func TestRejectionsAreBounded(t *testing.T) {
	rs := newRejections(1 << 20)
	rs.add(reject1("quiet", "verification_failed", "0", 1000))
	for i := range 5000 {
		rs.add(reject1("loud", "address_not_allowed", fmt.Sprintf("1%04d", i), 20_000))
		if rs.size > rs.most {
			t.Fatalf("%d bytes are kept", rs.size)
		}
	}
	for i := range 2 * keptPerReason {
		rs.add(reject1("loud", "invalid_body", fmt.Sprintf("2%04d", i), 0))
	}
	counts := map[string]int{}
	for _, r := range rs.list("", "", 10_000) {
		counts[r.Source+" "+r.Code]++
	}
	if counts["quiet verification_failed"] != 1 || counts["loud invalid_body"] != keptPerReason {
		t.Errorf("kept: %v", counts)
	}
	if n := counts["loud address_not_allowed"]; n < 40 || n > 52 {
		t.Errorf("%d of the largest are kept in 1 MiB", n)
	}
	if list := rs.list("loud", "", 2); len(list) != 2 || list[0].ID != "20199" || list[1].ID != "20198" {
		t.Errorf("newest: %v", list)
	}
	total := 0
	for _, ring := range rs.rings {
		for _, r := range ring.kept {
			total += r.size
		}
	}
	if total != rs.size {
		t.Errorf("%d bytes are counted, and %d kept", rs.size, total)
	}
}

// TestLongTaskIDIsNotKept has a stranger send a body in the place of a task id, and request lines that are kept in part.
func TestLongTaskIDIsNotKept(t *testing.T) {
	in := New(Params{})
	defer in.Stop()
	r := httptest.NewRequest(http.MethodPost, "/callbacks/"+strings.Repeat("p", 2*maxPath), nil)
	src := &relay.Source{Name: "vocals"}
	cb := &relay.Callback{TaskID: strings.Repeat("t", 1<<20), Now: time.Now()}
	in.keep(httptest.NewRecorder(), r, src, netip.Addr{}, cb, unavailable(errors.New("of the test")))
	list := in.rejections.list("", "", 10)
	if len(list) != 1 || list[0].TaskID != "" || len(list[0].Path) != maxPath {
		t.Fatalf("kept: %d, the task id has %d bytes", len(list), len(list[0].TaskID))
	}
	cb.TaskID = "task-1"
	in.keep(httptest.NewRecorder(), r, src, netip.Addr{}, cb, unavailable(errors.New("of the test")))
	if list := in.rejections.list("", "", 10); len(list) != 2 || list[0].TaskID != "task-1" && list[1].TaskID != "task-1" {
		t.Errorf("kept: %+v", list)
	}
}

func TestRejectionLargerThanAll(t *testing.T) {
	rs := newRejections(10_000)
	rs.add(reject1("a", "invalid_body", "1", 100))
	rs.add(reject1("b", "invalid_body", "2", 20_000))
	if list := rs.list("", "", 10); len(list) != 2 || list[0].Kept || list[0].Body != nil || !list[1].Kept {
		t.Errorf("kept: %+v", list)
	}
	if _, err := rs.take("2"); !errors.Is(err, ErrNotKept) {
		t.Errorf("taken without a body: %v", err)
	}
}

func TestRejectionIsTakenOnce(t *testing.T) {
	rs := newRejections(10_000)
	rs.add(reject1("a", "invalid_body", "1", 100))
	r, err := rs.take("1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rs.take("1"); !errors.Is(err, ErrTaken) {
		t.Errorf("taken by two at once: %v", err)
	}
	rs.taken(r, "")
	if r, err = rs.take("1"); err != nil {
		t.Fatalf("not taken after a failure: %v", err)
	}
	rs.taken(r, "event")
	if _, err := rs.take("1"); !errors.Is(err, ErrTaken) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := rs.take("2"); !errors.Is(err, relay.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}

// TestRejectionsInPages lists each rejected callback once.
func TestRejectionsInPages(t *testing.T) {
	in := &Intake{rejections: newRejections(1 << 20)}
	var ids []string
	for range 5 {
		id := NewID(time.Now())
		in.rejections.add(reject1("a", "invalid_body", id, 0))
		in.rejections.add(reject1("b", "invalid_body", NewID(time.Now()), 0))
		ids = append([]string{id}, ids...)
	}
	var got []string
	cursor := ""
	for page := range 3 {
		list, next, err := in.Rejections("a", 2, cursor)
		if err != nil || (next == "") != (page == 2) {
			t.Fatalf("page %d: %d rejections, next %q, error %v", page, len(list), next, err)
		}
		for _, r := range list {
			got = append(got, r.ID)
		}
		cursor = next
	}
	if !slices.Equal(got, ids) {
		t.Errorf("listed %v, expected %v", got, ids)
	}
	if list, next, err := in.Rejections("a", 5, ""); len(list) != 5 || next != "" || err != nil {
		t.Errorf("all: %d rejections, next %q, error %v", len(list), next, err)
	}
	if _, _, err := in.Rejections("a", 5, "no cursor"); !errors.Is(err, relay.ErrBadCursor) {
		t.Errorf("error %v", err)
	}
}
