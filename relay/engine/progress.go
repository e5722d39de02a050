package engine

import "context"

type progressKey struct{}

// WithProgress returns a context with which operations on many deliveries, such as Redrive, report after each step how many
// it has handled. They do so on the goroutine that has called them, and go on when report returns.
func WithProgress(ctx context.Context, report func(n int)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// progressed reports how many deliveries a step has handled, if anybody wants to know.
func progressed(ctx context.Context, n int) {
	if report, ok := ctx.Value(progressKey{}).(func(int)); ok {
		report(n)
	}
}
