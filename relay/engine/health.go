package engine

import (
	"errors"

	"github.com/callbackrelay/caddy-relay/relay"
)

// The reasons why callbacks cannot be taken. They name neither paths nor addresses: status does.
var (
	ErrStopped   = errors.New("the gateway has stopped")
	ErrNoStore   = errors.New("the store is not open")
	ErrStoreIll  = errors.New("the store takes no callbacks")
	ErrNoneTakes = errors.New("neither the store nor the spool takes callbacks")
)

// Takes returns nil if callbacks can be taken, by the store or by the spool, and else the reason. It answers from memory
// and never waits.
func (e *Engine) Takes() error {
	_, err := e.Store()
	switch {
	case errors.Is(err, relay.ErrClosed):
		return ErrStopped
	case err == nil && e.sweeper.Healthy() && e.committers.Healthy():
		return nil
	}
	stat, configured, up, _ := e.spooling.Stat()
	switch {
	case configured && up && stat.Error == "":
		return nil
	case configured:
		return ErrNoneTakes
	case err != nil:
		return ErrNoStore
	}
	return ErrStoreIll
}
