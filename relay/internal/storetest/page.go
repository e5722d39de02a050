package storetest

import (
	"github.com/callbackrelay/caddy-relay/relay"
)

// mostPages bounds how often a test asks for the next page, so that a cursor that runs in circles ends it.
const mostPages = 10_000

// letters lists all dead letters of a selection, page by page.
func (b *bench) letters(s relay.Selection) []relay.DeadLetter {
	b.t.Helper()
	return b.lettersBy(s, 50)
}

func (b *bench) lettersBy(s relay.Selection, limit int) []relay.DeadLetter {
	b.t.Helper()
	var all []relay.DeadLetter
	cursor := ""
	for range mostPages {
		page, next, err := b.Store.DeadLetters(b.ctx(), s, limit, cursor)
		b.must(err)
		if len(page) > limit {
			b.t.Fatalf("a page of %d, where %d were asked for", len(page), limit)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		cursor = next
	}
	b.t.Fatal("the pages do not end")
	return nil
}

// events lists all events of a filter, page by page; between is called after each page.
func (b *bench) events(f relay.EventFilter, between func()) []relay.EventRecord {
	b.t.Helper()
	var all []relay.EventRecord
	for range mostPages {
		page, next, err := b.Store.Events(b.ctx(), f)
		b.must(err)
		if f.Limit > 0 && len(page) > f.Limit {
			b.t.Fatalf("a page of %d, where %d were asked for", len(page), f.Limit)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		f.Cursor = next
		if between != nil {
			between()
		}
	}
	b.t.Fatal("the pages do not end")
	return nil
}

// purge repeats Purge until there is no more to do, and adds up what it returns.
func (b *bench) purge(p relay.PurgePolicy) relay.PurgeResult {
	b.t.Helper()
	sum := relay.PurgeResult{DeadLetters: map[relay.DestinationName]int{}, Deliveries: map[relay.DestinationName]int{}}
	for range mostPages {
		r, err := b.Store.Purge(b.ctx(), p)
		b.must(err)
		touched := 0
		sum.Events += r.Events
		for name, n := range r.Deliveries {
			sum.Deliveries[name] += n
			touched += n
		}
		for name, n := range r.DeadLetters {
			sum.DeadLetters[name] += n
		}
		if touched > relay.MaxTouched {
			b.t.Fatalf("one step deleted %d deliveries", touched)
		}
		if !r.More {
			return sum
		}
	}
	b.t.Fatal("the purge does not end")
	return sum
}
