package meter_test

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

func gather(t *testing.T, m *meter.Metrics) []*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(m)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// series returns the sums of the counters that have a source, by name; of others only that they are there.
func series(t *testing.T, m *meter.Metrics) map[string]float64 {
	t.Helper()
	sums := map[string]float64{}
	for _, f := range gather(t, m) {
		for _, s := range f.GetMetric() {
			if slices.ContainsFunc(s.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "source" }) {
				sums[f.GetName()] += s.GetCounter().GetValue()
			}
		}
	}
	return sums
}

// A count for a source or a destination that has left the config brings none of its series back.
func TestWhatHasLeftStaysAway(t *testing.T) {
	m := meter.New()
	name := relay.DestinationName{Source: "vocals", Destination: "billing"}
	count := func(s *meter.Source) {
		m.CountPurged(name, 2)
		m.CountWhenError(name)
		m.CountFiles("vocals", []relay.File{{Size: 3}}, &relay.ArchiveError{Failed: 1})
		m.CountRecovery("vocals", meter.Recovered)
		s.CountSubmission(meter.SubmissionExpected)
		s.Called(time.Now())
	}
	m.KeepSources(map[string]*relay.Source{"vocals": {Name: "vocals"}})
	m.Lane(name)
	count(m.Source("vocals"))
	before := series(t, m)
	for name, want := range map[string]float64{"purged_total": 2, "when_errors_total": 1, "archived_bytes_total": 3, "recoveries_total": 1, "submissions_total": 1} {
		if before["caddy_relay_"+name] != want {
			t.Errorf("%s is %v", name, before["caddy_relay_"+name])
		}
	}
	late := m.Source("vocals")
	m.DropLane(name)
	m.KeepSources(nil)
	count(late)
	if left := series(t, m); len(left) > 0 {
		t.Errorf("series of what has left: %v", left)
	}
}

// A source whose first callback ends after it has left shows none.
func TestLateFirstCallback(t *testing.T) {
	m := meter.New()
	s := m.Source("vocals")
	m.KeepSources(nil)
	s.Called(time.Now())
	if left := series(t, m); len(left) > 0 {
		t.Errorf("series of what has left: %v", left)
	}
}

// What a source was called before the start counts only until it is called again, and brings none back that has left.
func TestCalledBefore(t *testing.T) {
	m := meter.New()
	before, now := time.UnixMilli(1_700_000_000_250), time.UnixMilli(1_700_000_500_000)
	expect := func(want ...float64) {
		t.Helper()
		if got := gauges(t, m, "caddy_relay_last_callback_timestamp_seconds"); !slices.Equal(got, want) {
			t.Errorf("last called at %v, want %v", got, want)
		}
	}
	m.CalledBefore("vocals", before)
	expect()
	s := m.Source("vocals")
	expect()
	m.CalledBefore("vocals", before)
	expect(1_700_000_000.25)
	s.Called(now)
	m.CalledBefore("vocals", before)
	expect(1_700_000_500)
	m.KeepSources(nil)
	m.CalledBefore("vocals", before)
	expect()
}

// gauges returns the values of a gauge.
func gauges(t *testing.T, m *meter.Metrics, name string) (values []float64) {
	t.Helper()
	for _, f := range gather(t, m) {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			values = append(values, s.GetGauge().GetValue())
		}
	}
	return values
}
