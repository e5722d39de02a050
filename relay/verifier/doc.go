// Package verifier says who may call. Every verifier takes several secrets, for rotation, and names neither a secret nor
// a signature in an error.
package verifier
