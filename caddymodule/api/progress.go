package api

// ProgressType is the media type, named in Accept, by which a client asks for the progress of a replay of many events, a
// redrive, a discard or a reassignment. The answer is then JSON in lines: a Progress for each step, and last what it would be otherwise, or
// an Error. An answer without such a last line breaks off.
const ProgressType = "application/x-ndjson"

// Progress counts the deliveries that were handled up to now.
type Progress struct {
	Progress int `json:"progress"`
}
