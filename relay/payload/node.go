package payload

import "slices"

// node is a place in a body to which paths lead.
type node struct {
	path   string // one that leads here, for errors
	keys   []edge[string]
	items  []edge[int]
	each   *node // where # leads
	values []int // places in Found
	files  Files // none, if it has no path
	text   bool  // a string holds JSON itself; its place is the first of values
}

type edge[T comparable] struct {
	name T
	to   *node
}

// next returns the node to which the part leads from n.
func (n *node) next(part part, path string) *node {
	var to *node
	if i := slices.IndexFunc(n.keys, func(e edge[string]) bool { return e.name == part.name }); i >= 0 {
		to = n.keys[i].to
	} else { // a key of an object, whatever the part looks like
		to = &node{path: path}
		n.keys = append(n.keys, edge[string]{part.name, to})
	}
	switch {
	case part.each:
		n.each = to
	case part.index >= 0 && !slices.Contains(n.items, edge[int]{part.index, to}):
		n.items = append(n.items, edge[int]{part.index, to})
	}
	return to
}

// join makes an element that is named by its index lead wherever any path does that leads through it: by another spelling
// of the index, or by #.
func (n *node) join() {
	items := n.items
	n.items = nil
	for _, e := range items {
		n.items = unionEdges(n.items, []edge[int]{e})
	}
	if n.each != nil {
		for i := range n.items {
			n.items[i].to = union(n.items[i].to, n.each)
		}
		n.each.join()
	}
	for _, e := range n.items {
		e.to.join()
	}
	for _, e := range n.keys {
		e.to.join()
	}
}

// union returns a node that leads wherever a or b does.
func union(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	n := &node{path: a.path, text: a.text, keys: unionEdges(a.keys, b.keys), items: unionEdges(a.items, b.items), each: union(a.each, b.each)}
	n.values = slices.Concat(a.values, b.values)
	if n.files = a.files; n.files.Path == "" {
		n.files = b.files
	}
	return n
}

func unionEdges[T comparable](a, b []edge[T]) []edge[T] {
	edges := slices.Clone(a)
	for _, e := range b {
		if i := slices.IndexFunc(a, func(o edge[T]) bool { return o.name == e.name }); i >= 0 {
			edges[i].to = union(a[i].to, e.to)
		} else {
			edges = append(edges, e)
		}
	}
	return edges
}

// element returns the node of an array's element; nil where no path leads.
func (n *node) element(index int) *node {
	for _, e := range n.items {
		if e.name == index {
			return e.to
		}
	}
	return n.each
}
