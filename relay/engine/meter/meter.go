// Package meter holds the metrics of the process: counters that outlive engines and registries, and gauges that are read from
// the engine at each scrape.
package meter

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callbackrelay/caddy-relay/relay"
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
	recoveries      *prometheus.CounterVec
	storeDuration   *prometheus.HistogramVec
	storeErrors     *prometheus.CounterVec
	submissions     *prometheus.CounterVec
	logDropped      prometheus.Counter
	files           *prometheus.CounterVec
	fileBytes       *prometheus.CounterVec

	mu      sync.Mutex
	sources map[string]*Source
	lanes   map[relay.DestinationName]*Lane
	gauged  []Gauged
}

// Source holds the metrics of one source, looked up once.
type Source struct {
	AckDuration prometheus.Observer
	results     map[string]prometheus.Counter
	metrics     *Metrics
	name        string
	first       sync.Once
	last        prometheus.Gauge // has a series only once a callback came
}

// Count counts a callback by what became of it, one of relay.Results.
func (s *Source) Count(result string) { s.results[result].Inc() }

// The results of a submission, as caddy_relay_submissions_total has them.
const (
	SubmissionExpected    = "expected"
	SubmissionWithoutTask = "no_task" // the answer names none, or is an error
	SubmissionUnread      = "unread"  // the answer is encoded
	SubmissionFailed      = "failed"  // the task could not be registered
)

// CountSubmission counts a submission by what became of its task. A source that recovers nothing has no series before its first.
func (s *Source) CountSubmission(result string) {
	s.metrics.ofSource(s.name, func() { s.metrics.submissions.WithLabelValues(s.name, result).Inc() })
}

// Called notes when the last callback came that was not rejected.
func (s *Source) Called(at time.Time) { s.calledFirst(at).Set(timestamp(at)) }

// calledFirst returns the gauge of the last callback, which begins with at unless it was there before.
func (s *Source) calledFirst(at time.Time) prometheus.Gauge {
	s.first.Do(func() {
		s.last = prometheus.NewGauge(prometheus.GaugeOpts{}) // which nobody sees
		s.metrics.ofSource(s.name, func() { s.last = s.metrics.lastCallback.WithLabelValues(s.name) })
		s.last.Set(timestamp(at))
	})
	return s.last
}

func timestamp(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// Lane holds the metrics of one destination, looked up once.
type Lane struct {
	Delivered, Retry, Dead   prometheus.Counter
	AttemptDuration, Latency prometheus.Observer
	whenErrors, purged       prometheus.Counter
}

// New returns the collectors. Register the result with every registry that is to show them.
func New() *Metrics {
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
		recoveries:    counter("recoveries_total", "Expected tasks whose callback did not come, by what their details have brought.", "source", "result"),
		storeDuration: histogram("store_duration_seconds", "Time that an operation of the store took.", prometheus.ExponentialBuckets(.0002, 4, 9), "operation"),
		storeErrors:   counter("store_errors_total", "Operations of the store that failed.", "operation"),
		submissions:   counter("submissions_total", "Submissions through the gateway by what became of their task.", "source", "result"),
		logDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caddy_relay_log_dropped_total", Help: "Log lines and hooks dropped because their sink does not keep up.",
		}),
		files:     counter("files_archived_total", "Files that an archive fetched, by what became of them.", "source", "result"),
		fileBytes: counter("archived_bytes_total", "Bytes of files that an archive fetched, by what became of them.", "source", "result"),
		sources:   map[string]*Source{},
		lanes:     map[relay.DestinationName]*Lane{},
	}
}

func (m *Metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.callbacks, m.lastCallback, m.ackDuration, m.attempts, m.attemptDuration, m.latency,
		m.whenErrors, m.purged, m.recoveries, m.storeDuration, m.storeErrors, m.submissions, m.logDropped, m.files, m.fileBytes,
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.vectors() {
		c.Describe(ch)
	}
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It never waits for a store.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.vectors() {
		c.Collect(ch)
	}
	m.mu.Lock()
	var current Gauged // the newest one: while a reload changes the store there are two
	if n := len(m.gauged); n > 0 {
		current = m.gauged[n-1]
	}
	m.mu.Unlock()
	if current != nil {
		current.Gauges().collect(ch)
	}
}

// Show makes the gauges of an engine visible, in place of those of an engine shown before.
func (m *Metrics) Show(g Gauged) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gauged = append(m.gauged, g)
}

// Hide ends Show.
func (m *Metrics) Hide(g Gauged) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.gauged, g); i >= 0 {
		m.gauged = slices.Delete(m.gauged, i, i+1)
	}
}

// Source returns the metrics of a source.
func (m *Metrics) Source(name string) *Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[name]
	if s == nil {
		s = &Source{
			AckDuration: m.ackDuration.WithLabelValues(name),
			results:     map[string]prometheus.Counter{},
			metrics:     m, name: name,
		}
		for _, r := range relay.Results {
			s.results[r] = m.callbacks.WithLabelValues(name, r)
		}
		m.sources[name] = s
	}
	return s
}

// Lane returns the metrics of a destination.
func (m *Metrics) Lane(n relay.DestinationName) *Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[n]
	if l == nil {
		l = &Lane{
			Delivered:       m.attempts.WithLabelValues(n.Source, n.Destination, "delivered"),
			Retry:           m.attempts.WithLabelValues(n.Source, n.Destination, "retry"),
			Dead:            m.attempts.WithLabelValues(n.Source, n.Destination, "dead"),
			AttemptDuration: m.attemptDuration.WithLabelValues(n.Source, n.Destination),
			Latency:         m.latency.WithLabelValues(n.Source, n.Destination),
			whenErrors:      m.whenErrors.WithLabelValues(n.Source, n.Destination),
			purged:          m.purged.WithLabelValues(n.Source, n.Destination),
		}
		m.lanes[n] = l
	}
	return l
}

// ofLane runs count with the metrics of a destination, unless it has left the config: its series would come back for good.
func (m *Metrics) ofLane(n relay.DestinationName, count func(*Lane)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lanes[n]; l != nil {
		count(l)
	}
}

// ofSource runs count unless the source has left the config.
func (m *Metrics) ofSource(name string, count func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sources[name] != nil {
		count()
	}
}

// DropLane deletes the series of a destination that left the config.
func (m *Metrics) DropLane(n relay.DestinationName) {
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

// KeepSources shows the series of the sources of the config, from before their first callback on, and deletes those of others.
func (m *Metrics) KeepSources(sources map[string]*relay.Source) {
	for name, src := range sources {
		m.Source(name)
		if slices.ContainsFunc(src.Destinations, func(d *relay.Destination) bool { return d.Archiver != nil }) {
			for _, r := range []string{fileStored, fileFailed} {
				m.files.WithLabelValues(name, r)
				m.fileBytes.WithLabelValues(name, r)
			}
		}
		if src.Recover == nil {
			continue
		}
		for _, r := range []string{Recovered, RecoveredFailure, GivenUp} {
			m.recoveries.WithLabelValues(name, r)
		}
		for _, r := range []string{SubmissionExpected, SubmissionWithoutTask, SubmissionUnread, SubmissionFailed} {
			m.submissions.WithLabelValues(name, r)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.sources {
		if sources[name] == nil {
			delete(m.sources, name)
			labels := prometheus.Labels{"source": name}
			m.callbacks.DeletePartialMatch(labels)
			m.lastCallback.DeletePartialMatch(labels)
			m.submissions.DeletePartialMatch(labels)
			m.ackDuration.DeletePartialMatch(labels)
			m.files.DeletePartialMatch(labels)
			m.fileBytes.DeletePartialMatch(labels)
			m.recoveries.DeletePartialMatch(labels)
		}
	}
}

// The results of a recovery, as caddy_relay_recoveries_total has them.
const (
	Recovered        = "recovered" // the task has a result
	RecoveredFailure = "failed"    // the task ended without one
	GivenUp          = "given_up"
)

// CountRecovery counts what became of a task whose callback did not come.
func (m *Metrics) CountRecovery(source, result string) {
	m.ofSource(source, func() { m.recoveries.WithLabelValues(source, result).Inc() })
}

// CalledBefore notes when a source was called last before this process ran, unless it has been called since.
func (m *Metrics) CalledBefore(source string, at time.Time) {
	m.mu.Lock()
	s := m.sources[source]
	m.mu.Unlock()
	if s != nil {
		s.calledFirst(at)
	}
}

// CountWhenError counts an event that the destination's filter could not be evaluated for.
func (m *Metrics) CountWhenError(n relay.DestinationName) {
	m.ofLane(n, func(l *Lane) { l.whenErrors.Inc() })
}

// CountPurged counts deliveries that were deleted past their retention.
func (m *Metrics) CountPurged(n relay.DestinationName, deliveries int) {
	m.ofLane(n, func(l *Lane) { l.purged.Add(float64(deliveries)) })
}

// The results of a file, as caddy_relay_files_archived_total has them.
const (
	fileStored = "stored"
	fileFailed = "failed"
)

// CountFiles counts the files of an archive's attempt: those that it stored and, where missing is not nil, those that it
// did not.
func (m *Metrics) CountFiles(source string, stored []relay.File, missing *relay.ArchiveError) {
	size := int64(0)
	for _, f := range stored {
		size += f.Size
	}
	m.ofSource(source, func() {
		m.files.WithLabelValues(source, fileStored).Add(float64(len(stored)))
		m.fileBytes.WithLabelValues(source, fileStored).Add(float64(size))
		if missing != nil {
			m.files.WithLabelValues(source, fileFailed).Add(float64(missing.Failed))
			m.fileBytes.WithLabelValues(source, fileFailed).Add(float64(missing.Bytes))
		}
	})
}

// CountDropped counts a log line or a hook that was dropped because its sink does not keep up.
func (m *Metrics) CountDropped() { m.logDropped.Inc() }

// ObserveStore observes an operation of the store. The count of its errors is shown from the first operation on, because
// Prometheus sees no increase in a series that begins with its first error.
func (m *Metrics) ObserveStore(operation string, start time.Time, err error) {
	m.storeDuration.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	failed := m.storeErrors.WithLabelValues(operation)
	if err != nil {
		failed.Inc()
	}
}
