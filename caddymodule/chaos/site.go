package chaos

import (
	"fmt"
	"strings"
	"time"
)

// The sources of every gateway.
const (
	plainSource   = "plain"   // to two consumers
	orderedSource = "ordered" // three callbacks of a task, one after the other
	doomedSource  = "doomed"  // dead letters, which are redriven
	rubbishSource = "rubbish" // dead letters, which are discarded
	movedSource   = "moved"   // its destination has now this name, now that
	tasksSource   = "tasks"   // tasks of a provider, submitted, recovered and archived
)

// consumersOf names the consumers of a source.
var consumersOf = map[string][]string{
	plainSource:   {"steady", "flaky"},
	orderedSource: {"ordered"},
	doomedSource:  {"judge"},
	rubbishSource: {"bin"},
	movedSource:   {"moved"},
	tasksSource:   {"tasks"},
}

// attemptTimeout is the destinations' `timeout`.
const attemptTimeout = time.Second

// slots is the largest max_in_flight that a variant sets.
const slots = 16

// variant holds what a reload changes.
type variant struct {
	slots   int
	breaker string
	moved   string // the name of the moved source's destination
	broken  bool
}

var firstVariant = variant{slots: slots, breaker: "off", moved: "old"}

// config returns the configuration of a gateway.
func (w *world) config(g *gateway, v variant) string {
	var sites strings.Builder
	destination := func(name, consumer, more string) string {
		c := w.consumers[consumer]
		return fmt.Sprintf("\t\tto %s http://%s:%d/%s {\n\t\t\ttimeout %s\n\t\t\tmax_in_flight %d\n\t\t\tretry exponential 100ms 1s 10000\n"+
			"%s\t\t\ttransport http {\n\t\t\t\tresolvers %s\n%s\t\t\t}\n\t\t}\n",
			name, c.host(), c.port, name, attemptTimeout, v.slots, more, w.names.Address, c.protocol())
	}
	source := func(name, destinations string) {
		fmt.Fprintf(&sites, "\trelay /%[1]s %[1]s {\n\t\tack_within %s\n%s\t}\n", name, ackWithin, destinations)
	}
	source(plainSource, destination("steady", "steady", "\t\t\tbreaker off\n")+destination("flaky", "flaky", "\t\t\tbreaker "+v.breaker+"\n"))
	source(orderedSource, destination("ordered", "ordered", "\t\t\torder task\n\t\t\tbreaker off\n"))
	source(doomedSource, destination("judge", "judge", "\t\t\tbreaker off\n"))
	source(rubbishSource, destination("bin", "bin", "\t\t\tbreaker off\n"))
	source(movedSource, destination(v.moved, "moved", "\t\t\tbreaker off\n"))
	if w.tasks != nil {
		sites.WriteString(w.tasks.site(g, destination("tasks", "tasks", "\t\t\tbreaker off\n")))
	}
	if v.broken {
		sites.WriteString("\trelay /broken broken {\n\t\tack_within 3s\n\t}\n")
	}
	return fmt.Sprintf(`{
	admin %s
	auto_https off
	grace_period 2s
	metrics
	log {
		exclude admin.api
	}
	relay {
		drain 2s
		store %s
	}
}

http://%s {
	bind 127.0.0.1
%s}
`, g.admin, w.store(), g.address, sites.String())
}

// store returns the arguments of the `store` option.
func (w *world) store() string {
	if w.redis == nil {
		return "sqlite"
	}
	return w.redis.store()
}
