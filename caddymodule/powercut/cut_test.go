package powercut

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// fate decides what a loss of power leaves of what was not synced. A disk and its filesystem may write that in any order,
// as a whole or in parts.
type fate struct {
	random *rand.Rand
	keep   float64 // how likely anything is kept
	block  int64   // bytes that are kept or lost as a whole; 0: each write
	// ordered keeps names up to some moment and loses later ones, as a journal does. Else each goes its own way.
	ordered bool
	// grows lets a file have the size that a lost write would have caused, and stale is what such a part holds instead of
	// zeros.
	grows, stale bool

	names map[*call]bool // whether what a call did to names is kept
}

const (
	sector = 512
	page   = 4096
)

// newFate returns a random fate.
func newFate(random *rand.Rand) *fate {
	f := &fate{
		random: random, block: []int64{0, page, sector}[random.IntN(3)],
		ordered: random.IntN(2) == 0, grows: random.IntN(2) == 0, stale: random.IntN(4) == 0,
	}
	switch random.IntN(4) {
	case 0:
		f.keep = 0
	case 1:
		f.keep = 1
	default:
		f.keep = random.Float64()
	}
	return f
}

func (f *fate) String() string {
	return fmt.Sprintf("%.0f%% of what was not synced is kept, in blocks of %d (0: whole writes), names in order: %t, sizes: %t, stale: %t",
		100*f.keep, f.block, f.ordered, f.grows, f.stale)
}

func (f *fate) kept() bool { return f.random.Float64() < f.keep }

// leave writes to a folder what is on the disk after a loss of power.
func (d *disk) leave(f *fate, folder string) error {
	f.decideNames(d.root)
	return f.write(d.root, folder)
}

// decideNames decides which changes of names are kept. One that concerns two folders is kept in both or in none.
func (f *fate) decideNames(root *inode) {
	var calls []*call
	seen := map[*inode]bool{}
	var walk func(n *inode)
	walk = func(n *inode) {
		if !n.folder || seen[n] {
			return
		}
		seen[n] = true
		for _, ch := range n.changes {
			calls = append(calls, ch.by)
			for _, name := range slices.Sorted(maps.Keys(ch.names)) {
				if child := ch.names[name]; child != nil {
					walk(child)
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(n.kept)) {
			walk(n.kept[name])
		}
	}
	walk(root)
	slices.SortFunc(calls, func(a, b *call) int { return a.number - b.number })
	calls = slices.Compact(calls)
	f.names = map[*call]bool{}
	until := f.random.IntN(len(calls) + 1)
	for i, c := range calls {
		switch {
		case f.keep == 0 || f.keep == 1:
			f.names[c] = f.keep == 1
		case f.ordered:
			f.names[c] = i < until
		default:
			f.names[c] = f.kept()
		}
	}
}

func (f *fate) write(n *inode, path string) error {
	if !n.folder {
		return os.WriteFile(path, f.contentOf(n), 0o600)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	names := maps.Clone(n.kept)
	for _, ch := range n.changes {
		if f.names[ch.by] {
			ch.setIn(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := f.write(names[name], filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// contentOf returns what is left of a file.
func (f *fate) contentOf(n *inode) []byte {
	if isIndex(n.name) { // which is written by memory: anything may be there
		return f.waste(int64(f.random.IntN(64 << 10)))
	}
	if len(n.changes) == 0 {
		return n.content
	}
	content := bytes.Clone(n.content)
	for _, ch := range n.changes {
		if ch.truncate {
			if f.kept() {
				content = ch.write(content)
			}
			continue
		}
		for _, part := range ch.blocks(f.block) {
			switch {
			case f.kept():
				content = part.write(content)
			case f.grows:
				if more := part.at + int64(len(part.data)) - int64(len(content)); more > 0 {
					content = append(content, f.filling(more)...)
				}
			}
		}
	}
	return content
}

func (f *fate) filling(size int64) []byte {
	if f.stale {
		return f.waste(size)
	}
	return make([]byte, size)
}

func (f *fate) waste(size int64) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(f.random.Uint32())
	}
	return b
}

// blocks splits a write at multiples of a size.
func (ch *change) blocks(size int64) (parts []*change) {
	if size == 0 {
		return []*change{ch}
	}
	at, data := ch.at, ch.data
	for len(data) > 0 {
		n := min(size-at%size, int64(len(data)))
		parts = append(parts, &change{at: at, data: data[:n]})
		at, data = at+n, data[n:]
	}
	return parts
}
