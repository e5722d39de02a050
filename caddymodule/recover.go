package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// detailsBases are the bases of the providers' own APIs.
var detailsBases = map[string]string{"suno": "https://api.sunoapi.org", "kie": "https://api.kie.ai"}

// Recover sets how a source asks its provider for results whose callback has not come.
type Recover struct {
	// The endpoint that is asked about every task, whatever API it was submitted to. Placeholders: {env.*} and {file.*}.
	// Default: the provider's endpoint for the API that the task was submitted to, below the base.
	Details string `json:"details,omitempty"`

	// Where the provider's API is, up to what comes before `api/v1/`. Placeholders: {env.*} and {file.*}.
	// Default: https://api.sunoapi.org for suno, https://api.kie.ai for kie.
	Base string `json:"base,omitempty"`

	// Headers of every question, such as Authorization with the provider's key. Placeholders: {env.*} and {file.*}.
	Header map[string]string `json:"header,omitempty"`

	// How long a callback may take before the provider is asked. Default: 10m.
	After Duration `json:"after,omitempty"`

	// The shortest pause between two questions about a task. Default: 30s.
	Every Duration `json:"every,omitempty"`

	// How long a task is expected in all, before it is given up. Default: 24h.
	For Duration `json:"for,omitempty"`
}

// buildRecovery returns the recovery of the handler's source; nil if it has none.
func (h *Handler) buildRecovery() (*relay.Recovery, error) {
	r := h.Recover
	if r == nil {
		return nil, nil
	}
	if err := h.checkRecover(); err != nil {
		return nil, err
	}
	recovery := &relay.Recovery{
		After: r.After.or(relay.DefaultRecoverAfter),
		Every: r.Every.or(relay.DefaultRecoverEvery),
		For:   r.For.or(relay.DefaultRecoverFor),
	}
	var err error
	if recovery.Header, err = resolveHeader(r.Header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if r.Details != "" {
		if recovery.Details, err = resolveURL(r.Details); err != nil {
			return nil, fmt.Errorf("details: %w", err)
		}
		return recovery, nil
	}
	if recovery.Base, err = resolveBase(cmp.Or(r.Base, detailsBases[h.providerName()])); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return recovery, nil
}

// checkRecover checks what is known before provisioning.
func (h *Handler) checkRecover() error {
	r := h.Recover
	for name, d := range map[string]Duration{"after": r.After, "every": r.Every, "for": r.For} {
		if d < 0 {
			return fmt.Errorf("%s: expected a positive duration such as 30s, got %s", name, d)
		}
	}
	after, total := r.After.or(relay.DefaultRecoverAfter), r.For.or(relay.DefaultRecoverFor)
	switch {
	case !answersQuestions(h.providerName()):
		return fmt.Errorf("provider %s cannot be asked about its tasks; expected suno or kie", h.providerName())
	case total <= after:
		return fmt.Errorf("expected for to be longer than after, got %s and %s", Duration(total), Duration(after))
	case r.Details != "" && r.Base != "":
		return errors.New("expected either a details URL, which is asked whatever the API, or a base")
	case r.Details == "" && r.Base == "" && detailsBases[h.providerName()] == "":
		return fmt.Errorf("the base of provider %s is not known; expected base <URL> or recover <details URL>", h.providerName())
	case h.Body != "" && h.Body != string(payload.JSON):
		return fmt.Errorf("expected callbacks in JSON, as a recovered one is; got body %s", h.Body)
	}
	for _, field := range h.Dedupe {
		if strings.Contains(field, ":") {
			return fmt.Errorf("expected dedupe by task_id, stage and code alone, which a recovered callback shares with the provider's; got %q", field)
		}
	}
	return nil
}

// answersQuestions reports whether a provider can be asked about its tasks.
func answersQuestions(provider string) bool {
	info, err := caddy.GetModule("relay.providers." + provider)
	if err != nil {
		return true // it is refused when it is loaded
	}
	p, _ := info.New().(relay.Provider)
	_, ok := unwrap(p).(relay.DetailsReader)
	return ok
}

// resolveBase is resolveURL for a URL that paths and queries are put after.
func resolveBase(raw string) (*url.URL, error) {
	u, err := resolveURL(raw)
	if err != nil {
		return nil, err
	}
	return u, checkBase(u)
}

func checkBase(u *url.URL) error {
	if u.RawQuery != "" || u.ForceQuery {
		return errors.New("expected a URL without a query, since paths are put after it")
	}
	return nil
}

// unwrap returns the provider that a module holds, which may be able to do more than read callbacks.
func unwrap(p relay.Provider) relay.Provider {
	switch module := p.(type) {
	case *Suno:
		return module.Provider
	case *Kie:
		return module.Provider
	}
	return p
}
