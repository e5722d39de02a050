package api

import "time"

// Status is the answer of GET /relay/status.
type Status struct {
	Store StoreStatus  `json:"store"`
	Spool *SpoolStatus `json:"spool"` // null where there is none
	Nodes []NodeStatus `json:"nodes"`
	// Drift is set where gateways that share the store have different sources.
	Drift        bool                `json:"drift"`
	Sources      []SourceStatus      `json:"sources"`
	Destinations []DestinationStatus `json:"destinations"`
}

// StoreStatus describes the store.
type StoreStatus struct {
	Driver    string `json:"driver"`
	Location  string `json:"location"`
	FreeBytes int64  `json:"free_bytes"` // -1 where unknown
	// Unread is set until the store has been read once since the start, because it is being opened, cannot be, or does not
	// answer. The counts of destinations are unknown then, and 0.
	Unread bool `json:"unread,omitempty"`
	// EvictionPolicy, AppendOnly, AppendFsync and AOFDelayedFsync are Redis's, and absent for other stores. Each is
	// unknown (the last one absent) where Redis does not say.
	EvictionPolicy  string `json:"eviction_policy,omitempty"`
	AppendOnly      string `json:"appendonly,omitempty"`
	AppendFsync     string `json:"appendfsync,omitempty"`
	AOFDelayedFsync *int64 `json:"aof_delayed_fsync,omitempty"`
	Up              bool   `json:"up"`
	Error           string `json:"error,omitempty"`
}

// SpoolStatus describes the spool.
type SpoolStatus struct {
	Location      string  `json:"location"`
	FreeBytes     int64   `json:"free_bytes"` // on its disk; -1 where unknown
	Up            bool    `json:"up"`
	Error         string  `json:"error,omitempty"`
	Events        int     `json:"events"`
	Stuck         int     `json:"stuck"` // set aside, since the store refuses them
	Bytes         int64   `json:"bytes"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// NodeStatus is one gateway.
type NodeStatus struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Config string `json:"config,omitempty"` // a hash of its sources
}

// SourceStatus is one configured source.
type SourceStatus struct {
	Name string `json:"name"`
	// Open is set where neither an address list nor a verifier keeps anyone from calling.
	Open         bool        `json:"open"`
	Destinations []string    `json:"destinations"`
	Tasks        *TaskCounts `json:"tasks,omitempty"` // absent where the source has no `recover`, and no task
}

// DestinationStatus is one destination, configured or orphaned.
type DestinationStatus struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	// State is active, held, paused or orphaned.
	State                string        `json:"state"`
	Counts               StateCounts   `json:"counts"`
	OldestPendingSeconds float64       `json:"oldest_pending_seconds"`
	Paused               bool          `json:"paused"`
	Breaker              BreakerStatus `json:"breaker"`
	// Client names the sender of the requests: lean, for HTTP/1.1 without a proxy or special options, or caddy, for Caddy's
	// own transport. It is absent where the destination is orphaned.
	Client string `json:"client,omitempty"`
}

// StateCounts are the deliveries of a destination by state. Held, paused and orphaned ones are not counted as pending.
type StateCounts struct {
	Pending   int64 `json:"pending"`
	InFlight  int64 `json:"in_flight"`
	Delivered int64 `json:"delivered"`
	Dead      int64 `json:"dead"`
	Held      int64 `json:"held"`
	Paused    int64 `json:"paused"`
	Orphaned  int64 `json:"orphaned"`
}

// BreakerStatus is the breaker of a destination, on the gateway that answers.
type BreakerStatus struct {
	State     string     `json:"state"` // closed or open
	Failures  int        `json:"failures"`
	NextProbe *time.Time `json:"next_probe,omitempty"`
}
