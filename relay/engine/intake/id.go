package intake

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ids makes event ids that ascend within this process, so that the store appends rather than inserts.
var ids = struct {
	sync.Mutex
	entropy *ulid.MonotonicEntropy
}{entropy: ulid.Monotonic(rand.Reader, 0)}

// NewID returns an event id that was not there before. A wall clock that is set outside of what an id can say, 1970 to 10889,
// counts as its bound.
func NewID(now time.Time) string {
	at := uint64(min(max(now.UnixMilli(), 0), int64(ulid.MaxTime())))
	ids.Lock()
	defer ids.Unlock()
	return ulid.MustNew(at, ids.entropy).String()
}
