package spooling

import (
	"log/slog"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// lookEvery is how often a spool that has failed is tried, and how often the log says what has changed.
const lookEvery = time.Second

// health knows whether the spool works, and logs when that changes: not once for each callback that the spool refuses.
type health struct {
	spool  relay.Spool
	logger func() *slog.Logger

	mu    sync.Mutex
	told  string // the error that was logged last; empty while the spool is healthy
	ill   bool   // it was the spool that failed, and not only too full for an entry
	wrote bool   // nothing has failed since the latest write
}

// written notes how a write to the spool ended, and returns its error.
func (h *health) written(err error) error {
	if err != nil {
		h.failed(err)
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrote = true
	return nil
}

// failed notes that the spool has failed.
func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrote = false
	if h.told == "" {
		h.tell(err)
	}
}

// tell logs why the spool fails. The caller holds mu.
func (h *health) tell(err error) {
	stat := h.spool.Stat()
	h.told, h.ill = err.Error(), stat.Error != ""
	log := h.logger().With("path", stat.Path, "error", err)
	if stack := guard.Stack(err); stack != "" {
		log = log.With("stack", stack)
	}
	log.Error("spool unhealthy; callbacks get 503 while the store cannot accept them")
}

// look has a spool that cannot be written try whether it can be by now. A spool that was only too full for an entry is
// healthy again after the next write.
func (h *health) look() {
	err := guard.Step(h.spool.Probe)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		if h.wrote = false; err.Error() != h.told {
			h.tell(err)
		}
	case h.told != "" && (h.ill || h.wrote):
		h.told = ""
		h.logger().Info("spool healthy again", "path", h.spool.Stat().Path)
	}
}
