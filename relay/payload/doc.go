// Package payload reads the bodies of callbacks: it checks them and finds in one pass what a provider wants of them.
package payload
