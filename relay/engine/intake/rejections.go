package intake

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// keptPerReason is how many rejected callbacks are kept for each source and reason.
	keptPerReason = 100
	// keptBytes is how much memory all of them may use together.
	keptBytes = 16 << 20
	// keptOverhead approximates the memory that a rejected callback uses besides its headers and body, in bytes.
	keptOverhead = 512
	// maxPath is how much of a request's path is kept, in bytes.
	maxPath = 256
)

// Errors of taking in a rejected callback.
var (
	// ErrTaken: it was taken in before, or is being taken in at this moment.
	ErrTaken = errors.New("the rejected callback has been taken in already")
	// ErrNotKept: its body is not there, so there is nothing to take in.
	ErrNotKept = errors.New("the body of the rejected callback was not kept")
)

// Rejected is a rejected callback, as it is kept for a look. Neither its query nor a header that carries a secret is
// there, since both may hold what lets a caller in.
type Rejected struct {
	ID       string
	Source   string
	At       time.Time
	Method   string
	Path     string
	Remote   string     // address of the connection
	Client   netip.Addr // after trusted proxies; invalid where it is unknown
	Status   int        // of the answer
	Result   string     // one of relay.Results
	Code     string     // of the answer, for programs
	Reason   string     // in words
	TaskID   string     // where the body was read before the callback was rejected, and names one
	Headers  relay.Headers
	Body     []byte
	Size     int64  // of the body, in bytes: as announced where it was not read whole; 0 where that is unknown, too
	Kept     bool   // the body is there, whole, so that the callback can be taken in
	Accepted string // id of the event that it became or is a duplicate of; empty unless it was taken in
}

// rejected is a rejected callback with what is not shown of it.
type rejected struct {
	Rejected
	header http.Header // as it came, but for credentials, for dedupe fields and task ids that stand in it
	taking bool        // an operator is taking it in
	size   int
}

// reason groups the rejected callbacks that are kept, so that strangers who call often push out nothing but their own.
type reason struct{ source, code string }

// ring holds the rejected callbacks of one source and reason, the oldest first.
type ring struct {
	kept []*rejected
	size int
}

// rejections keeps the newest rejected callbacks in memory. Where there is no room, the ring that uses most gives up its
// oldest. It is safe for concurrent use.
type rejections struct {
	most int // bytes

	mu    sync.Mutex
	size  int
	rings map[reason]*ring
}

func newRejections(most int) *rejections {
	return &rejections{most: most, rings: map[reason]*ring{}}
}

// add keeps a rejected callback. A body that is larger than all that may be kept is left out.
func (rs *rejections) add(r *rejected) {
	r.size = keptOverhead + len(r.Method) + len(r.Path) + len(r.Reason) + len(r.TaskID)
	for name, value := range r.Headers {
		r.size += len(name) + len(value)
	}
	for name, values := range r.header {
		r.size += len(name) + len(strings.Join(values, ""))
	}
	if r.size+len(r.Body) > rs.most {
		r.Body, r.Kept, r.header = nil, false, nil
	}
	r.size += len(r.Body)

	rs.mu.Lock()
	defer rs.mu.Unlock()
	at := reason{r.Source, r.Code}
	if rs.rings[at] == nil {
		rs.rings[at] = &ring{}
	}
	own := rs.rings[at]
	own.kept = append(own.kept, r)
	own.size += r.size
	rs.size += r.size
	if len(own.kept) > keptPerReason {
		rs.drop(own)
	}
	for rs.size > rs.most {
		rs.drop(rs.greediest())
	}
}

// drop discards the oldest of a ring. The caller holds mu.
func (rs *rejections) drop(from *ring) {
	oldest := from.kept[0]
	from.kept = slices.Delete(from.kept, 0, 1)
	from.size -= oldest.size
	rs.size -= oldest.size
}

// greediest returns the ring that uses most. The caller holds mu.
func (rs *rejections) greediest() *ring {
	var most *ring
	for _, r := range rs.rings {
		if most == nil || r.size > most.size {
			most = r
		}
	}
	return most
}

// list returns the newest rejected callbacks of a source, or of all where it is empty, the newest first: those that came
// before the one with the id before, unless that is empty.
func (rs *rejections) list(source, before string, limit int) []Rejected {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var all []Rejected
	for at, ring := range rs.rings {
		if source != "" && at.source != source {
			continue
		}
		for _, r := range ring.kept {
			if before == "" || r.ID < before {
				all = append(all, r.Rejected)
			}
		}
	}
	slices.SortFunc(all, func(a, b Rejected) int { return cmp.Compare(b.ID, a.ID) })
	return all[:min(len(all), limit)]
}

// take claims a rejected callback for one operator, who must end the claim with taken.
func (rs *rejections) take(id string) (*rejected, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, ring := range rs.rings {
		for _, r := range ring.kept {
			switch {
			case r.ID != id:
			case r.taking || r.Accepted != "":
				return nil, ErrTaken
			case !r.Kept:
				return nil, ErrNotKept
			default:
				r.taking = true
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("rejected callback %q: %w", id, relay.ErrNotFound)
}

// taken ends a claim: with the id of the event that the callback became, or with none where it was not accepted.
func (rs *rejections) taken(r *rejected, event string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.taking, r.Accepted = false, event
}

// Rejections returns the newest rejected callbacks of a source, or of all where it is empty, the newest first. Where there
// are more of them than limit, next is the cursor that the following ones are listed with. What they hold must not be
// changed. Errors: relay.ErrBadCursor.
func (in *Intake) Rejections(source string, limit int, cursor string) (page []Rejected, next string, err error) {
	if _, err := ulid.ParseStrict(cursor); err != nil && cursor != "" {
		return nil, "", fmt.Errorf("%q: %w", cursor, relay.ErrBadCursor)
	}
	page = in.rejections.list(source, cursor, limit+1)
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, nil
}
