package redisstore

import "github.com/callbackrelay/caddy-relay/relay"

// scriptBytes is how much one script brings Redis at most, unless a single operation has more: Redis serves nobody else while
// it runs.
const scriptBytes = 1 << 20

// group is operations of one partition, in their order, that one script does.
type group[T any] struct {
	shard          *shard
	ops            []T
	touched, bytes int
}

// grouped parts operations into groups that touch no more than MaxTouched deliveries and bring no more than scriptBytes. Those
// of a partition keep their order. size returns an operation's partition and how much it touches and brings.
func grouped[T any](ops []T, size func(T) (h *shard, touched, bytes int)) (groups []*group[T]) {
	open := map[*shard]*group[T]{}
	for i, op := range ops {
		h, touched, bytes := size(op)
		g := open[h]
		if g == nil || g.touched+touched > relay.MaxTouched || g.bytes+bytes > scriptBytes {
			g = &group[T]{shard: h, ops: make([]T, 0, min(len(ops)-i, relay.MaxTouched))}
			open[h], groups = g, append(groups, g)
		}
		g.ops = append(g.ops, op)
		g.touched, g.bytes = g.touched+touched, g.bytes+bytes
	}
	return groups
}

// indexes numbers names from 1, as a script's keys and arguments have them.
type indexes struct {
	of    map[string]int
	names []string
}

// index returns the number of a name.
func (x *indexes) index(name string) int {
	if n, ok := x.of[name]; ok {
		return n
	}
	if x.of == nil {
		x.of = map[string]int{}
	}
	x.names = append(x.names, name)
	x.of[name] = len(x.names)
	return len(x.names)
}

// args appends how many names there are, and the names.
func (x *indexes) args(args []any) []any {
	args = append(args, len(x.names))
	for _, name := range x.names {
		args = append(args, name)
	}
	return args
}

// destinations returns the keys of a script of a partition: its block, those of the destinations, and room for more.
func (x *indexes) destinations(h *shard, more int) []string {
	block := h.block(blockSize*len(x.names) + more)
	for _, name := range x.names {
		block = h.queue(block, name)
	}
	return block
}
