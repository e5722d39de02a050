package command

// mostRecent is how many events a tail remembers at least: more than a gateway takes within the seconds of which it may
// send events once more.
const mostRecent = 50_000

// recently remembers the ids that were added last: mostRecent of them at least, and twice as many at most. Its zero value has
// none.
type recently struct{ newest, older map[string]bool }

func (r *recently) has(id string) bool { return r.newest[id] || r.older[id] }

func (r *recently) add(id string) {
	if r.newest == nil || len(r.newest) == mostRecent {
		r.newest, r.older = map[string]bool{}, r.newest
	}
	r.newest[id] = true
}
