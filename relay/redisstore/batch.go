package redisstore

import "github.com/callbackrelay/caddy-relay/relay"

// scriptBytes is how much one script brings Redis at most, unless a single operation has more: Redis serves nobody else while
// it runs.
const scriptBytes = 1 << 20

// group is operations of one source, in their order, that one script does.
type group[T any] struct {
	source         string
	ops            []T
	touched, bytes int
}

// grouped parts operations into groups that touch no more than MaxTouched deliveries and bring no more than scriptBytes. Those
// of a source keep their order. size returns an operation's source and how much it touches and brings.
func grouped[T any](ops []T, size func(T) (source string, touched, bytes int)) (groups []*group[T]) {
	open := map[string]*group[T]{}
	for i, op := range ops {
		source, touched, bytes := size(op)
		g := open[source]
		if g == nil || g.touched+touched > relay.MaxTouched || g.bytes+bytes > scriptBytes {
			g = &group[T]{source: source, ops: make([]T, 0, min(len(ops)-i, relay.MaxTouched))}
			open[source], groups = g, append(groups, g)
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

// destinations returns the keys of a script of a source: its block, those of the destinations, and room for more.
func (x *indexes) destinations(k keys, source string, more int) []string {
	block := k.source(source, blockSize*len(x.names)+more)
	for _, name := range x.names {
		block = k.destination(block, source, name)
	}
	return block
}
