package sqlitestore

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// pack is the row of an event with those of its deliveries that were leased as it was accepted, or soon after (queue.go),
// and were delivered by that lease or will be: nearly all. What else becomes of one is written in a row of its own, and the
// pack has it no more. One that was not delivered when the process ended has a row from the next start on.
//
// All entries are of one length, so that to settle one writes over a few bytes of a page and moves nothing on it.
type pack []byte

// packEntry is one delivery of a pack, and its attempt. What the row has it in is small: of a fan-out to many, packs are most
// of what is written.
type packEntry struct {
	destination int64
	flags       byte
	status      int
	duration    time.Duration // in whole microseconds, up to 71 minutes
	at          int64         // wall clock, milliseconds since packEpoch, up to 34 years
	settled     int64         // store's clock
}

const (
	entrySize = 4 + 2 + 4 + 5 + 5
	packEpoch = 1_577_836_800_000 // 2020
	packFlags = 12                // where they begin in the two bytes that they share with the status
)

const (
	packDelivered = 1 << iota // not: leased or queued
	packTried                 // an attempt was made
	packUsed                  // of the retry budget
	packRow                   // the attempt has a row, since the entry has no room for it, or for what was answered
)

func (p pack) append(e packEntry) pack {
	p = binary.BigEndian.AppendUint32(p, uint32(e.destination))
	p = binary.BigEndian.AppendUint16(p, uint16(e.flags)<<packFlags|uint16(e.status))
	p = binary.BigEndian.AppendUint32(p, uint32(e.duration.Microseconds()))
	p = appendSmall(p, e.at, 5)
	return appendSmall(p, e.settled, 5)
}

// holds reports whether an entry has room for an attempt.
func holds(a *relay.Attempt) bool {
	at := millis(a.At) - packEpoch
	return a.Error == "" && len(a.Response) == 0 && a.Status < 1<<packFlags && uint64(a.Duration.Microseconds()) <= math.MaxUint32 && at >= 0 && at < 1<<(5*8)
}

// appendSmall appends a number that is not negative in some bytes.
func appendSmall(b []byte, n int64, size int) []byte {
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

func small(b []byte) (n int64) {
	for _, c := range b {
		n = n<<8 | int64(c)
	}
	return n
}

func (p pack) len() int { return len(p) / entrySize }

func (p pack) entry(i int) packEntry {
	b := p[i*entrySize:]
	return packEntry{
		destination: int64(binary.BigEndian.Uint32(b)), flags: b[4] >> (packFlags - 8), status: int(binary.BigEndian.Uint16(b[4:]) % (1 << packFlags)),
		duration: time.Duration(binary.BigEndian.Uint32(b[6:])) * time.Microsecond, at: small(b[10:15]), settled: small(b[15:20]),
	}
}

// find returns the place of a destination's entry, or -1.
func (p pack) find(destination int64) int {
	for i := range p.len() {
		if int64(binary.BigEndian.Uint32(p[i*entrySize:])) == destination {
			return i
		}
	}
	return -1
}

// delivered reports whether the entry at a place was delivered.
func (p pack) delivered(i int) bool {
	e := p.entry(i)
	return e.delivered()
}

// replace writes an entry over the one at a place.
func (p pack) replace(i int, e packEntry) { p[:i*entrySize].append(e) }

func (p pack) without(i int) pack { return append(p[:i*entrySize], p[(i+1)*entrySize:]...) }

func (e *packEntry) delivered() bool { return e.flags&packDelivered != 0 }

// state is that of the delivery's row, if it had one.
func (e *packEntry) state() int64 {
	if e.delivered() {
		return delivered
	}
	return ready
}

func (e *packEntry) tries() int { return int(e.flags & packTried / packTried) }

func (e *packEntry) used() int { return int(e.flags & packUsed / packUsed) }

// attempt returns the attempt of an entry that has one, and no row for it.
func (e *packEntry) attempt() (a relay.Attempt, ok bool) {
	return relay.Attempt{At: fromMillis(packEpoch + e.at), Duration: e.duration, Status: e.status}, e.flags&(packTried|packRow) == packTried
}

const packOf = "SELECT deliveries FROM packed WHERE event = +?"

func readPack(c *sqlitefile.Conn, event int64) (p pack, err error) {
	st := c.Stmt(packOf)
	st.BindInt64(1, event)
	err = st.Each(func() { p = st.ColumnBlob(0) })
	return p, err
}

// packs holds the packs that a transaction changes, each of which is written once.
type packs map[int64]pack

func (s *Store) pack(of packs, event int64) (pack, error) {
	if p, ok := of[event]; ok {
		return p, nil
	}
	return readPack(s.db.Writer, event)
}

func (s *Store) savePacks(of packs) error {
	for event, p := range of {
		st := s.db.Writer.Stmt("UPDATE packed SET deliveries = ?2 WHERE event = +?1")
		if len(p) == 0 {
			st = s.db.Writer.Stmt("DELETE FROM packed WHERE event = +?1")
		} else {
			st.BindBytes(2, p)
		}
		st.BindInt64(1, event)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// insertPack stores the pack of a new event, if it has any delivery.
func (s *Store) insertPack(event int64, p pack) error {
	if len(p) == 0 {
		return nil
	}
	st := s.db.Writer.Stmt("INSERT INTO packed (event, deliveries) VALUES (?, ?)")
	st.BindInt64(1, event)
	st.BindBytes(2, p)
	return st.Exec()
}

// settlePacked notes in its pack that a delivery was delivered.
func (s *Store) settlePacked(tx *transaction, d *destination, op *relay.Settle) error {
	event := op.Leased.Event.Seq
	p, err := s.pack(tx.packs, event)
	if err != nil {
		return err
	}
	e := packEntry{destination: d.id, flags: packDelivered, settled: tx.now}
	if op.Used {
		e.flags |= packUsed
	}
	if a := op.Attempt; a != nil {
		e.flags |= packTried
		if holds(a) {
			e.status, e.duration, e.at = a.Status, a.Duration, millis(a.At)-packEpoch
		} else {
			e.flags |= packRow
			if err := s.recordAttempt(d, op); err != nil {
				return err
			}
		}
	}
	p.replace(p.find(d.id), e)
	tx.packs[event] = p
	return nil
}

// unpack has a row of its own for a delivery that is in a pack, and reports whether it was: ready if it is leased.
func (s *Store) unpack(of packs, d *destination, event int64) (bool, error) {
	p, err := s.pack(of, event)
	i := p.find(d.id)
	if i < 0 || err != nil {
		return false, err
	}
	e := p.entry(i)
	of[event] = p.without(i)
	st := s.db.Writer.Stmt("INSERT INTO delivery (event, destination, state, tries, used, settled) VALUES (?, ?, ?, ?, ?, ?)")
	st.Bind(event, d.id, e.state(), int64(e.tries()), int64(e.used()), e.settled)
	if err := st.Exec(); err != nil {
		return false, err
	}
	if a, ok := e.attempt(); ok {
		return true, s.insertAttempt(event, d.id, 1, &a)
	}
	return true, nil
}

// unpackNow is unpack in a transaction that changes no other pack.
func (s *Store) unpackNow(d *destination, event int64) (bool, error) {
	of := packs{}
	found, err := s.unpack(of, d, event)
	if err == nil {
		err = s.savePacks(of)
	}
	return found, err
}

// held is the first event that may have a delivery in its pack that is not delivered. The caller holds write.
func (s *Store) held() int64 {
	first := s.newest + 1
	for _, d := range s.byID {
		first = min(first, d.held())
	}
	return first
}

// held is the first event whose delivery to the destination is in a pack and not delivered; never if there is none.
func (d *destination) held() int64 {
	first := d.queue.first()
	for event, l := range d.leases {
		if l.packed {
			first = min(first, event)
		}
	}
	return first
}

// packsFrom finds the packs of events after one.
const packsFrom = "SELECT event, deliveries FROM packed WHERE event > ? ORDER BY event LIMIT ?"

// unpackHeld has rows of their own for the deliveries whose lease has ended with the process. The caller holds write, or is
// the only one.
func (s *Store) unpackHeld() error {
	first, err := s.meta("held")
	if err != nil {
		return err
	}
	type held struct{ destination, event int64 }
	var all []held
	st := s.db.Writer.Stmt(packsFrom)
	st.Bind(first-1, never)
	if err := st.Each(func() {
		event, p := st.ColumnInt64(0), pack(st.ColumnBlob(1))
		for i := range p.len() {
			if e := p.entry(i); !e.delivered() {
				all = append(all, held{e.destination, event})
			}
		}
	}); err != nil {
		return err
	}
	for len(all) > 0 {
		some := all[:min(len(all), relay.MaxTouched)]
		all = all[len(some):]
		if err := s.transact(nil, func() error {
			for _, h := range some {
				if _, err := s.unpackNow(s.byID[h.destination], h.event); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
