// Package api holds what goes over the wire of the admin API: its paths, and the bodies of its requests and answers.
// It depends on the standard library alone, so that a client needs nothing of the gateway.
//
// Times are RFC 3339, in UTC where the gateway answers. A client should ignore fields of an answer that it does not know.
package api
