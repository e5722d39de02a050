package relay

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of one process, for however many engines and registries: counters outlive the engine that
// counted, and a reload registers the same collectors again. Labels are configured names only.
type Metrics struct {
	callbacks       *prometheus.CounterVec
	lastCallback    *prometheus.GaugeVec
	ackDuration     *prometheus.HistogramVec
	attempts        *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	latency         *prometheus.HistogramVec
	whenErrors      *prometheus.CounterVec
	purged          *prometheus.CounterVec
	storeDuration   *prometheus.HistogramVec
	storeErrors     *prometheus.CounterVec

	mu      sync.Mutex
	sources map[string]*sourceMetrics
	lanes   map[DestinationName]*laneMetrics
	engines []*Engine
}

// sourceMetrics are those of one source, looked up once.
type sourceMetrics struct {
	ackDuration prometheus.Observer
	results     map[string]prometheus.Counter
}

func (m *sourceMetrics) count(result string) { m.results[result].Inc() }

// laneMetrics are those of one destination, looked up once.
type laneMetrics struct {
	delivered, retry, dead   prometheus.Counter
	attemptDuration, latency prometheus.Observer
	whenErrors               prometheus.Counter
}

// The gauges are read from the engines at each scrape.
var (
	descDeliveries    = describe("deliveries", "Deliveries in the store.", "source", "destination", "state")
	descOldestPending = describe("oldest_pending_seconds", "Age of the oldest delivery that is not settled.", "source", "destination")
	descBreakerOpen   = describe("breaker_open", "Whether the destination is held by its breaker on this node.", "source", "destination")
	descPaused        = describe("destination_paused", "Whether an operator has paused the destination.", "source", "destination")
	descLeaseExpired  = describe("lease_expired_total", "Leases that expired before their attempt was settled.", "source", "destination")
	descStoreUp       = describe("store_up", "Whether the store is open and well.")
	descSpooled       = describe("spooled_events", "Callbacks in the spool, which the store has yet to take.")
	descSpoolOldest   = describe("spool_oldest_seconds", "Age of the oldest callback that waits in the spool.")
	descStoreFree     = describe("store_free_bytes", "Free space where the store is.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_relay_"+name, help, labels, nil)
}

// NewMetrics makes the collectors. Register the result with every registry that is to show them.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "caddy_relay_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "caddy_relay_" + name, Help: help, Buckets: buckets}, labels)
	}
	return &Metrics{
		callbacks: counter("callbacks_total", "Callbacks by what became of them.", "source", "result"),
		lastCallback: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "caddy_relay_last_callback_timestamp_seconds", Help: "When the last callback came that was not rejected.",
		}, []string{"source"}),
		ackDuration: histogram("ack_duration_seconds", "Time until a callback was answered.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}, "source"),
		attempts: counter("attempts_total", "Attempts by their outcome.", "source", "destination", "result"),
		attemptDuration: histogram("attempt_duration_seconds", "Time that an attempt took.",
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}, "source", "destination"),
		latency: histogram("delivery_latency_seconds", "Time from the acceptance of an event, or its replay, to its delivery.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 60, 300, 900, 3600, 21600, 86400}, "source", "destination"),
		whenErrors:    counter("when_errors_total", "Events that a `when` could not be evaluated for, and which were delivered.", "source", "destination"),
		purged:        counter("purged_total", "Deliveries deleted past their retention.", "source", "destination"),
		storeDuration: histogram("store_duration_seconds", "Time that an operation of the store took.", prometheus.ExponentialBuckets(.0002, 4, 9), "operation"),
		storeErrors:   counter("store_errors_total", "Operations of the store that failed.", "operation"),
		sources:       map[string]*sourceMetrics{},
		lanes:         map[DestinationName]*laneMetrics{},
	}
}

func (m *Metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.callbacks, m.lastCallback, m.ackDuration, m.attempts, m.attemptDuration, m.latency,
		m.whenErrors, m.purged, m.storeDuration, m.storeErrors,
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.vectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		descDeliveries, descOldestPending, descBreakerOpen, descPaused, descLeaseExpired, descStoreUp, descStoreFree, descSpooled, descSpoolOldest,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It never waits for a store.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.vectors() {
		c.Collect(ch)
	}
	m.mu.Lock()
	var engine *Engine // the newest one: while a reload changes the store there are two
	if n := len(m.engines); n > 0 {
		engine = m.engines[n-1]
	}
	m.mu.Unlock()
	if engine != nil {
		engine.collect(ch)
	}
}

// collect sends the gauges of one engine.
func (e *Engine) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var spooled SpoolStat // of a store without a spool: nothing
	if s := e.spooler.Load(); s != nil {
		spooled = s.spool.Stat()
	}
	gauge(descSpooled, float64(spooled.Events+spooled.Stuck))
	gauge(descSpoolOldest, spooled.age().Seconds())
	store, err := e.Store()
	if err != nil {
		gauge(descStoreUp, 0)
		return
	}
	gauge(descStoreUp, truth(e.healthy.Load() && e.committers.well()))
	if free := store.Info().FreeBytes; free >= 0 {
		gauge(descStoreFree, float64(free))
	}
	s := e.settings.Load()
	for _, c := range withNone(s, store.Counts()) {
		orphaned := s.destination(c.Source, c.Destination) == nil
		if orphaned {
			if n := c.Pending + c.InFlight; n > 0 {
				gauge(descDeliveries, float64(n), c.Source, c.Destination, string(StateOrphaned))
			}
			continue
		}
		gauge(descDeliveries, float64(c.Pending), c.Source, c.Destination, string(StatePending))
		gauge(descDeliveries, float64(c.InFlight), c.Source, c.Destination, string(StateInFlight))
		gauge(descDeliveries, float64(c.Dead), c.Source, c.Destination, string(StateDead))
		gauge(descOldestPending, c.OldestPending.Seconds(), c.Source, c.Destination)
		gauge(descPaused, truth(c.Paused), c.Source, c.Destination)
		ch <- prometheus.MustNewConstMetric(descLeaseExpired, prometheus.CounterValue, float64(c.LeaseExpired), c.Source, c.Destination)
	}
	e.mu.Lock()
	lanes := make([]*lane, 0, len(e.lanes))
	for name, l := range e.lanes {
		if s.destination(name.Source, name.Destination) != nil {
			lanes = append(lanes, l)
		}
	}
	e.mu.Unlock()
	for _, l := range lanes {
		gauge(descBreakerOpen, truth(l.breakerStatus().State == breakerOpen), l.name.Source, l.name.Destination)
	}
}

// withNone adds the destinations of the settings of which the store has nothing yet.
func withNone(s *Settings, counts []Count) []Count {
	known := make(map[DestinationName]bool, len(counts))
	for _, c := range counts {
		known[DestinationName{c.Source, c.Destination}] = true
	}
	for _, src := range s.Sources {
		for _, d := range src.Destinations {
			if !known[DestinationName{src.Name, d.Name}] {
				counts = append(counts, Count{Source: src.Name, Destination: d.Name})
			}
		}
	}
	return counts
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *Metrics) add(e *Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines = append(m.engines, e)
}

func (m *Metrics) remove(e *Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, other := range m.engines {
		if other == e {
			m.engines = append(m.engines[:i:i], m.engines[i+1:]...)
			return
		}
	}
}

func (m *Metrics) source(name string) *sourceMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[name]
	if s == nil {
		s = &sourceMetrics{
			ackDuration: m.ackDuration.WithLabelValues(name),
			results:     map[string]prometheus.Counter{},
		}
		for _, r := range []string{
			ResultAccepted, ResultUnmatched, ResultDuplicate, ResultConflict, ResultSpooled,
			ResultDenied, ResultUnverified, ResultInvalid, ResultTooLarge, ResultUnavailable,
		} {
			s.results[r] = m.callbacks.WithLabelValues(name, r)
		}
		m.sources[name] = s
	}
	return s
}

func (m *Metrics) lane(n DestinationName) *laneMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[n]
	if l == nil {
		l = &laneMetrics{
			delivered:       m.attempts.WithLabelValues(n.Source, n.Destination, "delivered"),
			retry:           m.attempts.WithLabelValues(n.Source, n.Destination, "retry"),
			dead:            m.attempts.WithLabelValues(n.Source, n.Destination, "dead"),
			attemptDuration: m.attemptDuration.WithLabelValues(n.Source, n.Destination),
			latency:         m.latency.WithLabelValues(n.Source, n.Destination),
			whenErrors:      m.whenErrors.WithLabelValues(n.Source, n.Destination),
		}
		m.purged.WithLabelValues(n.Source, n.Destination) // shown from the beginning
		m.lanes[n] = l
	}
	return l
}

// drop deletes the series of a destination that left the config.
func (m *Metrics) drop(n DestinationName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lanes, n)
	labels := prometheus.Labels{"source": n.Source, "destination": n.Destination}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.attempts, m.attemptDuration, m.latency, m.whenErrors, m.purged,
	} {
		v.DeletePartialMatch(labels)
	}
}

// keepSources shows the series of the sources of the config, from their first callback on, and deletes those of others.
func (m *Metrics) keepSources(sources map[string]*Source) {
	for name := range sources {
		m.source(name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.sources {
		if sources[name] == nil {
			delete(m.sources, name)
			labels := prometheus.Labels{"source": name}
			m.callbacks.DeletePartialMatch(labels)
			m.lastCallback.DeletePartialMatch(labels)
			m.ackDuration.DeletePartialMatch(labels)
		}
	}
}

func (m *Metrics) observeStore(operation string, start time.Time, err error) {
	m.storeDuration.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if err != nil {
		m.storeErrors.WithLabelValues(operation).Inc()
	}
}
