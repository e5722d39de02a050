package sqlitestore

import "math/bits"

const (
	filterBits   = 12 // per key: of a thousand keys that a run does not have some seven seem to be there
	filterProbes = 7
	filterBlock  = 64 // bytes: a cache line, so that a look costs one access to memory
)

// filter is a blocked Bloom filter of hashes as an entry has them. What it denies is not there.
type filter []byte

func newFilter(keys int) filter {
	return make(filter, (keys*filterBits/8/filterBlock+1)*filterBlock)
}

// place returns the block of a hash, and a number of which its bits in the block are taken.
func (f filter) place(hash uint64) (block []byte, probes uint64) {
	n, _ := bits.Mul64(hash<<(64-hashBits), uint64(len(f)/filterBlock))
	return f[n*filterBlock:][:filterBlock], hash * 0x9e3779b97f4a7c15
}

func (f filter) add(hash uint64) {
	block, probes := f.place(hash)
	for range filterProbes {
		block[probes>>3%filterBlock] |= 1 << (probes & 7)
		probes >>= 9
	}
}

// mayHave reports whether a hash may have been added.
func (f filter) mayHave(hash uint64) bool {
	if len(f) == 0 {
		return false
	}
	block, probes := f.place(hash)
	for range filterProbes {
		if block[probes>>3%filterBlock]&(1<<(probes&7)) == 0 {
			return false
		}
		probes >>= 9
	}
	return true
}
