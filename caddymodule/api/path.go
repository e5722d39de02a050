package api

import "net/url"

// Paths, below the address of Caddy's admin endpoint.
const (
	PathStatus      = "/relay/status"
	PathEvents      = "/relay/events"
	PathExport      = "/relay/events.jsonl"
	PathReplay      = "/relay/replay"
	PathDeadLetters = "/relay/dead-letters"
	PathRedrive     = "/relay/dead-letters/redrive"
	PathDiscard     = "/relay/dead-letters/discard"
	PathDestination = "/relay/destinations"
	PathRejections  = "/relay/rejections"
	PathTasks       = "/relay/tasks"
	PathStream      = "/relay/stream"
	PathSend        = "/relay/send"
	PathDoctor      = "/relay/doctor"
)

// EventPath returns the path of one event.
func EventPath(id string) string { return PathEvents + "/" + url.PathEscape(id) }

// BodyPath returns the path of the body of one event, which is answered byte for byte.
func BodyPath(id string) string { return EventPath(id) + "/body" }

// ReplayPath returns the path that replays one event.
func ReplayPath(id string) string { return EventPath(id) + "/replay" }

// PausePath returns the path that pauses a destination.
func PausePath(source, destination string) string {
	return destinationPath(source, destination, "pause")
}

// ResumePath returns the path that resumes a destination.
func ResumePath(source, destination string) string {
	return destinationPath(source, destination, "resume")
}

// ReassignPath returns the path that hands the deliveries of a destination to another one.
func ReassignPath(source, destination string) string {
	return destinationPath(source, destination, "reassign")
}

// AcceptPath returns the path that accepts a rejected callback after all.
func AcceptPath(id string) string { return PathRejections + "/" + url.PathEscape(id) + "/accept" }

func destinationPath(source, destination, operation string) string {
	return PathDestination + "/" + url.PathEscape(source) + "/" + url.PathEscape(destination) + "/" + operation
}
