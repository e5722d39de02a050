// Package verifier decides who may call. Every verifier accepts several secrets or keys, so that one can replace another
// without a gap, compares secrets in constant time, and names neither a secret nor a signature in an error.
package verifier
