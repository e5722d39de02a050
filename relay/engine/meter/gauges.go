package meter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Gauged is an engine whose gauges are read at each scrape.
type Gauged interface {
	// Gauges answers from memory and never waits for a store.
	Gauges() Gauges
}

// Gauges are the values of an engine at one scrape.
type Gauges struct {
	StoreUp      bool
	StoreFree    int64 // bytes; negative where unknown
	Spooled      int
	SpoolOldest  time.Duration
	Tasks        []relay.TaskCount
	Destinations []DestinationGauges
}

// DestinationGauges are those of one destination.
type DestinationGauges struct {
	relay.Count
	Orphaned    bool
	BreakerOpen bool
	// FileLife is how long a sender keeps the files of an archive; zero where the destination is none.
	FileLife time.Duration
}

var (
	descDeliveries    = describe("deliveries", "Deliveries in the store.", "source", "destination", "state")
	descOldestPending = describe("oldest_pending_seconds", "Age of the oldest delivery that is not settled.", "source", "destination")
	descBreakerOpen   = describe("breaker_open", "Whether the destination is held by its breaker on this node.", "source", "destination")
	descPaused        = describe("destination_paused", "Whether an operator has paused the destination.", "source", "destination")
	descLeaseExpired  = describe("lease_expired_total", "Leases that expired before their attempt was settled.", "source", "destination")
	descTasks         = describe("tasks", "Tasks whose final callback is expected.", "source", "state")
	descStoreUp       = describe("store_up", "Whether the store is open and healthy.")
	descSpooled       = describe("spooled_events", "Callbacks in the spool, which the store has yet to accept.")
	descSpoolOldest   = describe("spool_oldest_seconds", "Age of the oldest callback that waits in the spool.")
	descStoreFree     = describe("store_free_bytes", "Free space where the store is.")

	descArchiveExpires = describe("archive_expires_seconds", "How soon the files of the oldest event that is not archived yet are gone at their sender; below zero: they may be gone.", "source")

	descs = []*prometheus.Desc{
		descDeliveries, descOldestPending, descBreakerOpen, descPaused, descLeaseExpired, descTasks, descStoreUp, descStoreFree, descSpooled, descSpoolOldest, descArchiveExpires,
	}
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_relay_"+name, help, labels, nil)
}

// collect sends the gauges. A store that is not open has no room to speak of: StoreFree is negative then.
func (g Gauges) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descSpooled, float64(g.Spooled))
	gauge(descSpoolOldest, g.SpoolOldest.Seconds())
	gauge(descStoreUp, truth(g.StoreUp))
	if g.StoreFree >= 0 {
		gauge(descStoreFree, float64(g.StoreFree))
	}
	for _, t := range g.Tasks {
		gauge(descTasks, float64(t.Expected), t.Source, string(relay.TaskExpected))
		gauge(descTasks, float64(t.Overdue), t.Source, string(relay.TaskOverdue))
	}
	for _, d := range g.Destinations {
		if d.Orphaned {
			if n := d.Pending + d.InFlight; n > 0 {
				gauge(descDeliveries, float64(n), d.Source, d.Destination, string(relay.StateOrphaned))
			}
			continue
		}
		gauge(descDeliveries, float64(d.Pending), d.Source, d.Destination, string(relay.StatePending))
		gauge(descDeliveries, float64(d.InFlight), d.Source, d.Destination, string(relay.StateInFlight))
		gauge(descDeliveries, float64(d.Dead), d.Source, d.Destination, string(relay.StateDead))
		gauge(descOldestPending, d.OldestPending.Seconds(), d.Source, d.Destination)
		if d.FileLife > 0 {
			gauge(descArchiveExpires, (d.FileLife - d.OldestPending).Seconds(), d.Source)
		}
		gauge(descPaused, truth(d.Paused), d.Source, d.Destination)
		gauge(descBreakerOpen, truth(d.BreakerOpen), d.Source, d.Destination)
		ch <- prometheus.MustNewConstMetric(descLeaseExpired, prometheus.CounterValue, float64(d.LeaseExpired), d.Source, d.Destination)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
