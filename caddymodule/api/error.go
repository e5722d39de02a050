package api

// Error is the body of every answer that is not 200.
type Error struct {
	Code    string `json:"error"`   // for programs, such as not_found
	Message string `json:"message"` // one sentence, for people
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }
