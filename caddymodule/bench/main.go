// Command bench measures the gateway against plain Caddy: the same binary, the same machine, the same run.
//
// Rounds of reference and product alternate, and medians are compared, so that what else the machine does falls on both.
// The load generator is a process of its own (this program once more); the consumers are in this one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// settings of a run.
type settings struct {
	binary      string
	base        string
	dir         string
	body        string
	only        string
	rounds      int
	connections int
	duration    time.Duration
	callbacks   int
	slots       int
	backlog     int
	seconds     int
	events      int
	store       string
	perSecond   int
	length      time.Duration
	out         string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		generate()
		return
	}
	var s settings
	flag.StringVar(&s.binary, "caddy", "", "the binary to measure (default: built from ./caddymodule/caddy)")
	flag.StringVar(&s.base, "base", "", "another binary to measure by turns with the first, round for round")
	flag.StringVar(&s.dir, "dir", "", "where the stores are made, on the disk to measure (default: a new folder in the system's temporary one)")
	flag.StringVar(&s.body, "body", "relay/testdata/callback-separate-vocal.json", "the callback")
	flag.StringVar(&s.only, "only", "accept,fanout,shapes,latency,redis,backlog", "what to measure: these, soak or million")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of reference and product each")
	flag.IntVar(&s.connections, "connections", 64, "keep-alive connections of the sender")
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "length of a round of accepts")
	flag.IntVar(&s.callbacks, "callbacks", 20_000, "callbacks in a round of fan-out")
	flag.IntVar(&s.slots, "slots", 64, "max_in_flight of each destination")
	flag.IntVar(&s.backlog, "backlog", 1_000_000, "deliveries that wait for a dead destination")
	flag.IntVar(&s.seconds, "seconds", 20, "length of the latency measurement")
	flag.StringVar(&s.store, "store", "", "the store of a soak (default: sqlite) or of many events (default: both): sqlite or redis")
	flag.IntVar(&s.events, "events", 1_000_000, "events that a store with many has")
	flag.IntVar(&s.perSecond, "per-second", 0, "callbacks a second of a soak (default: half of what the gateway sustains)")
	flag.DurationVar(&s.length, "length", 30*time.Minute, "length of a soak")
	flag.StringVar(&s.out, "out", "soak", "the files that a soak writes, without their endings .csv and .svg")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one measurement.
type part struct {
	name string
	run  func(*bench) error
}

var parts = []part{
	{"accept", (*bench).accept},
	{"fanout", (*bench).fanout},
	{"shapes", (*bench).shapes},
	{"latency", (*bench).latency},
	{"redis", (*bench).redis},
	{"backlog", (*bench).backlog},
	{"soak", (*bench).soak},
	{"million", (*bench).million},
}

// bench is a run.
type bench struct {
	settings
	callback string // the body, with taskMark where its task id stands
	table    *tabwriter.Writer
	server   *servers.Redis // that the gateways use, or nil
	folders  int            // that were made

	perSource string // options of the source of a fan-out, on lines of their own
	perTo     string // options of each of its destinations
}

// binary is a gateway to measure; its name is added to the rows.
type binary struct{ path, name string }

func (b *bench) binaries() []binary {
	if b.base == "" {
		return []binary{{b.binary, ""}}
	}
	return []binary{{b.base, " (base)"}, {b.binary, " (now)"}}
}

// check refuses the names of parts and stores that there are not: nothing would be measured, or something else.
func (s *settings) check() error {
	for only := range strings.SplitSeq(s.only, ",") {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == only }) {
			return fmt.Errorf("-only: there is no %q to measure", only)
		}
	}
	if !slices.Contains([]string{"", sqlite, "redis"}, s.store) {
		return fmt.Errorf("-store: expected %s or redis, not %q", sqlite, s.store)
	}
	return nil
}

func run(s settings) error {
	if err := s.check(); err != nil {
		return err
	}
	body, err := os.ReadFile(s.body)
	if err != nil {
		return err
	}
	b := &bench{settings: s, table: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	if b.callback, err = mark(string(body)); err != nil {
		return fmt.Errorf("%s: %w", s.body, err)
	}
	work, err := os.MkdirTemp(s.dir, "relay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b.dir = work
	if b.binary == "" {
		if b.binary, err = servers.Build(work, servers.Gateway); err != nil {
			return err
		}
	}
	b.row("what", "reference", "product", "ratio", "target",
		"CPU: reference", "product", "ratio", "Redis", "bytes written", "allocations", "events a commit")
	for _, p := range parts {
		if !strings.Contains(","+s.only+",", ","+p.name+",") {
			continue
		}
		if err := p.run(b); err != nil {
			return errors.Join(b.table.Flush(), fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return b.table.Flush()
}

// row adds a line to the table.
func (b *bench) row(cells ...string) {
	fmt.Fprintln(b.table, strings.Join(cells, "\t"))
}

// note prints the progress of the run beside the table.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
