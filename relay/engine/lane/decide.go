package lane

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
)

// decide applies the retry rules to an answer. held reports whether the destination's breaker was open when it came.
func decide(s *relay.Settle, dst *relay.Destination, a *courier.Answer, held bool) {
	d := s.Leased
	s.Attempt, s.Files = &a.Attempt, a.Files
	s.Used = true
	if a.Success() {
		s.Outcome = relay.OutcomeDelivered
		return
	}
	if a.Final() || slices.Contains(dst.Permanent, a.Status) {
		s.Outcome = relay.OutcomeDead
		return
	}
	if held && counts(a.Verdict()) {
		// What fails while the destination is held is no fault of the delivery: it goes to the end of the queue, and the
		// next probe decides when it is tried again.
		s.Outcome, s.Used = relay.OutcomeRetry, false
		return
	}
	delay, ok := dst.Retry.Delay(d.Used)
	if !ok {
		s.Outcome = relay.OutcomeDead
		return
	}
	s.Outcome, s.Delay = relay.OutcomeRetry, max(delay, a.RetryAfter)
	if dst.Expire > 0 {
		// It is leased once more when it expires, to be given up.
		s.Delay = min(s.Delay, max(0, dst.Expire-d.Age-a.Duration))
	}
}
