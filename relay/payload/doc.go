// Package payload reads the bodies of callbacks: it checks them and finds in one pass what a provider wants of them. It
// also puts a member into the body of a submission.
package payload
