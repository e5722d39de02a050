package api

import "time"

// Tasks is the answer of GET /relay/tasks.
type Tasks struct {
	Tasks []Task `json:"tasks"`
	Next  string `json:"next"` // the cursor of the next page; empty on the last one
}

// Task is a task whose final callback is, or was, expected.
type Task struct {
	Source string `json:"source"`
	TaskID string `json:"task_id"`
	API    string `json:"api"` // that it was submitted to; empty where nobody has said
	// State is expected, overdue, recovered, given_up or called_back.
	State      string     `json:"state"`
	Reason     string     `json:"reason,omitempty"` // what the last poll has found, or why it was given up
	ExpectedAt time.Time  `json:"expected_at"`      // when it was registered
	Polls      int        `json:"polls"`
	LastPollAt *time.Time `json:"last_poll_at,omitempty"`
	NextPollAt *time.Time `json:"next_poll_at,omitempty"` // while it is expected or overdue
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	EventID    string     `json:"event_id,omitempty"` // of the event that has ended it
}

// ExpectRequest is the body of POST /relay/tasks.
type ExpectRequest struct {
	Source string `json:"source"`
	TaskID string `json:"task_id"`
	// API is the path that the task was submitted to, such as api/v1/vocal-removal/generate. It may be left out where the
	// URL in the source's `recover` is a details endpoint of the provider.
	API string `json:"api,omitempty"`
}

// Expected is the answer of POST /relay/tasks, once the registration is durable.
type Expected struct {
	Source string `json:"source"`
	TaskID string `json:"task_id"`
}

// TaskCounts counts the tasks of a source whose final callback is expected.
type TaskCounts struct {
	Expected int64 `json:"expected"` // it may still come in time
	Overdue  int64 `json:"overdue"`  // their details are asked
}
