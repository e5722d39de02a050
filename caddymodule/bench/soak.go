package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// soaked names the values that a soak watches, in the order of its columns and charts. The log is the embedded store's; it
// fills and is emptied again and again, so that it is held to its size and not to what it was before.
var soaked = []string{"memory MiB", "heap MiB", "goroutines", "descriptors", "store MiB", logSize, waitingDeliveries}

const (
	logSize           = "log MiB"
	waitingDeliveries = "waiting deliveries"
)

// How the soak spends its time. Events are kept, and keys remembered, for soakRetention only, so that a store that purges
// what it should stops growing long before the end.
const (
	soakRetention = 2 * time.Minute
	soakUp        = 40 * time.Second // the flapping consumer answers 200, and then
	soakDown      = 20 * time.Second // 503
	soakEvery     = 5 * time.Second  // a reading
	// A soak may end with this much more than it had after its first third. The heap's garbage alone moves by half of it.
	soakGrowth = 1.15
	// The log is emptied at 64 MiB, or after the step that went beyond.
	soakLog = 80.0
)

// soak sends callbacks at half the rate that the gateway sustains, to a steady consumer and to one that fails a third of
// the time, and shows that nothing grows: neither the process nor the store.
func (b *bench) soak() (err error) {
	// What follows is of this part alone.
	defer func(s settings, perSource, perTo string) { b.settings, b.perSource, b.perTo = s, perSource, perTo }(b.settings, b.perSource, b.perTo)
	b.store = cmp.Or(b.store, sqlite)
	store := embedded
	if b.store == "redis" {
		address, stop, err := b.startRedis("everysec")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		store = func(string) string { return "redis " + address }
	}
	b.perSource = fmt.Sprintf("\t\tdedupe_window %s\n", soakRetention)
	b.perTo = "\n\t\t\tretry exponential 2s 30s 12\n\t\t\tbreaker 3 5s" // out of step with the flapping consumer
	f, err := b.newFan(b.binary, 2, store("soak")+"\n\t\tretention "+soakRetention.String(), "soak")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	rate := b.perSecond
	if rate == 0 {
		full, err := f.delivered()
		if err != nil {
			return err
		}
		rate = int(full.rate) / len(f.consumers) / 2
	}
	note("soak on %s: %d events/s for %s", b.store, rate, b.length)
	for _, c := range f.consumers {
		c.keepLedger()
	}
	flapping := make(chan struct{})
	flapped := make(chan struct{})
	go func() {
		defer close(flapped)
		f.consumers[1].flap(flapping)
	}()
	watch := &watch{f: f, started: time.Now(), stop: make(chan struct{}), done: make(chan error, 1)}
	go watch.run()
	o, err := load(job{
		Addresses: f.addresses(), Path: "/callbacks", Body: f.callback, Connections: b.connections,
		Count: int(b.length.Seconds()) * rate, PerSecond: rate, Again: time.Second,
	})
	close(watch.stop)
	close(flapping)
	<-flapped
	// Half a soak tells something, too.
	if err := errors.Join(err, <-watch.done, watch.save(b.out, b.store, rate)); err != nil {
		return err
	}
	if err := f.gateways[0].poll(5*time.Minute, func() (bool, error) {
		return f.consumers[0].distinct() == o.Requests && f.consumers[1].distinct() == o.Requests, nil
	}); err != nil {
		return fmt.Errorf("of %d events answered, %d and %d arrived: %w", o.Requests, f.consumers[0].distinct(), f.consumers[1].distinct(), err)
	}
	note("%d events answered and delivered twice, answers p50 %s, p99 %s", o.Requests, milliseconds(o.P50), milliseconds(o.P99))
	return watch.verdict(b)
}

// watch reads what a soak's gateway holds, again and again.
type watch struct {
	f        *fan
	started  time.Time
	stop     chan struct{}
	done     chan error
	readings []reading
}

// reading holds the values of soaked at a time.
type reading struct {
	at     time.Duration
	values []float64
}

func (w *watch) run() {
	tick := time.NewTicker(soakEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			w.done <- nil
			return
		case <-tick.C:
			values, err := w.f.held()
			if err != nil {
				w.done <- err
				return
			}
			w.readings = append(w.readings, reading{time.Since(w.started), values})
		}
	}
}

// held returns the values of soaked.
func (f *fan) held() ([]float64, error) {
	const mib = 1 << 20
	g := f.gateways[0]
	memory, _, err := g.memory()
	if err != nil {
		return nil, err
	}
	m, err := g.metrics()
	if err != nil {
		return nil, err
	}
	heap, err := m.sum("go_memstats_heap_alloc_bytes")
	if err != nil {
		return nil, err
	}
	goroutines, err := m.sum("go_goroutines")
	if err != nil {
		return nil, err
	}
	if heap == 0 || goroutines == 0 {
		return nil, errors.New("/metrics lacks go_memstats_heap_alloc_bytes or go_goroutines")
	}
	waiting, err := m.sum("caddy_relay_deliveries", `state="pending"`)
	if err != nil {
		return nil, err
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	size, log, err := f.storeSize()
	return []float64{float64(memory), heap / mib, goroutines, float64(len(descriptors)), size / mib, log / mib, waiting}, err
}

// storeSize returns the bytes of the database's files and of their logs, or the memory that Redis uses for its data.
func (f *fan) storeSize() (size, log float64, err error) {
	if f.server != nil {
		size, err = redisMemory(f.server)
		return size, 0, err
	}
	err = filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(filepath.Base(path), ".db") {
			return err
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // a log that has just been removed
			return nil
		case err != nil:
			return err
		case strings.HasSuffix(path, "-wal"):
			log += float64(info.Size())
		default:
			size += float64(info.Size())
		}
		return nil
	})
	return size, log, err
}

// redisMemory asks a Redis for its used_memory.
func redisMemory(r *servers.Redis) (float64, error) {
	info, err := r.Do("INFO memory")
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(info, "used_memory:")
	if !found {
		return 0, fmt.Errorf("no used_memory in the answer of %s", r.Address)
	}
	value, _, _ := strings.Cut(rest, "\r\n")
	return strconv.ParseFloat(value, 64)
}

// save writes the readings as a table and as charts.
func (w *watch) save(out, store string, perSecond int) error {
	if len(w.readings) == 0 {
		return nil
	}
	return errors.Join(w.write(out+".csv"), os.WriteFile(out+".svg", w.draw(store, perSecond), 0o600))
}

// write writes the readings as a table.
func (w *watch) write(file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := csv.NewWriter(f)
	if err := out.Write(append([]string{"seconds"}, soaked...)); err != nil {
		return err
	}
	for _, r := range w.readings {
		cells := []string{fmt.Sprintf("%.0f", r.at.Seconds())}
		for _, v := range r.values {
			cells = append(cells, fmt.Sprintf("%.1f", v))
		}
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// verdict adds a row for each value, and fails where the last third of the soak holds more than the middle one, whose
// medians are over many rounds of the flapping consumer, or where the log was not emptied. Waiting deliveries rise and fall
// with the consumer, and are only shown.
func (w *watch) verdict(b *bench) (err error) {
	third := len(w.readings) / 3
	if third < 3 {
		return fmt.Errorf("only %d readings: let the soak last longer", len(w.readings))
	}
	for i, name := range soaked {
		middle, last := w.typical(i, third, 2*third), w.typical(i, 2*third, len(w.readings))
		if name == logSize {
			highest := w.highest(i)
			b.row("soak on "+b.store+": "+name+", at its highest", "", fmt.Sprintf("%.0f", highest), "", fmt.Sprintf("≤ %.0f", soakLog))
			if highest > soakLog {
				err = errors.Join(err, fmt.Errorf("the log grew to %.0f MiB and was not emptied", highest))
			}
			continue
		}
		ratio := last / max(middle, 1)
		b.row("soak on "+b.store+": "+name+", last third against the middle one", fmt.Sprintf("%.0f", middle), fmt.Sprintf("%.0f", last),
			fmt.Sprintf("%.2f", ratio), fmt.Sprintf("≤ %.2f", soakGrowth))
		if ratio > soakGrowth && name != waitingDeliveries {
			err = errors.Join(err, fmt.Errorf("%s grew from %.0f to %.0f", name, middle, last))
		}
	}
	return err
}

// typical returns the median of a value over some readings.
func (w *watch) typical(value, from, to int) float64 {
	var all []float64
	for _, r := range w.readings[from:to] {
		all = append(all, r.values[value])
	}
	return median(all)
}

// highest returns the highest value that was read.
func (w *watch) highest(value int) (highest float64) {
	for _, r := range w.readings {
		highest = max(highest, r.values[value])
	}
	return highest
}
