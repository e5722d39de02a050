package api

import "time"

// DeadLetters is the answer of GET /relay/dead-letters, newest event first. The last page has an empty cursor.
type DeadLetters struct {
	DeadLetters []DeadLetter `json:"dead_letters"`
	Next        string       `json:"next"`
}

// DeadLetter is a delivery given up.
type DeadLetter struct {
	EventID     string    `json:"event_id"`
	Source      string    `json:"source"`
	TaskID      string    `json:"task_id"`
	Destination string    `json:"destination"`
	Attempts    int       `json:"attempts"`
	LastStatus  int       `json:"last_status"` // 0 where there was no response
	LastError   string    `json:"last_error"`
	DeadAt      time.Time `json:"dead_at"`
}
