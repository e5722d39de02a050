package relay

import "time"

// AlertSource is the name of the built-in source whose events are alerts.
const AlertSource = "relay"

// Defaults of alerts.
const (
	DefaultSilentAfter = 24 * time.Hour
	DefaultAlertEvery  = 15 * time.Minute
)

// Condition names a trouble that alerts are about.
type Condition string

// The conditions that alerts exist for.
const (
	ConditionDeadLetter  Condition = "dead_letter"  // a destination has dead letters
	ConditionBreakerOpen Condition = "breaker_open" // a destination is held
	ConditionUnverified  Condition = "unverified"   // a source refused several signatures in a row
	ConditionDenied      Condition = "denied"       // a source refused callers by their address
	ConditionSilent      Condition = "silent"       // a source was called before, and then no longer
	ConditionOverdue     Condition = "overdue"      // expected tasks have brought no callback in time, or no result at all
	ConditionStore       Condition = "store"        // the store takes no callbacks
	ConditionSpool       Condition = "spool"        // callbacks wait in the spool
)

// Conditions are all there are, in the order of the documentation.
var Conditions = []Condition{
	ConditionDeadLetter, ConditionBreakerOpen, ConditionUnverified, ConditionDenied, ConditionSilent, ConditionOverdue,
	ConditionStore, ConditionSpool,
}

// Alerts sets which conditions become events of the source AlertSource, which must be among Settings.Sources with
// DedupeWindow set to Every.
type Alerts struct {
	Conditions  []Condition
	SilentAfter time.Duration // how long a source may not be called before it is silent
	Every       time.Duration // at most one alert of a condition, source and destination in this time
	// Dashboard returns the URL of a dashboard, with its last slash; empty where none is known.
	Dashboard func() string
}
