package provider

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// secrets are the URLs to which an answer's task calls back. A token in one lets whoever reads it call back, too.
type secrets []string

// findSecrets appends those of a value and of the JSON that its texts hold.
func findSecrets(to secrets, v any, depth int) secrets {
	if depth == 0 {
		return to
	}
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			if url, ok := below.(string); ok && namesCallback(name) && strings.Contains(url, "://") {
				to = append(to, url)
			}
			to = findSecrets(to, below, depth-1)
		}
	case []any:
		for _, below := range v {
			to = findSecrets(to, below, depth-1)
		}
	case string:
		if inner := nested(v); inner != nil {
			to = findSecrets(to, inner, depth-1)
		}
	}
	return to
}

// nested returns the object or array that a text holds; nil: none.
func nested(text string) (v any) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "[") {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil || d.InputOffset() != int64(len(text)) {
		return nil
	}
	return v
}

func namesCallback(name string) bool {
	folded := string(fold(nil, []byte(name)))
	return strings.Contains(folded, "callbackurl") || strings.Contains(folded, "calbackurl")
}

// echoes reports whether the value of a field repeats the request.
func echoes(name string) bool {
	folded := string(fold(nil, []byte(name)))
	return folded == "paramjson" || slices.Contains(notFiles, folded) || namesCallback(name)
}

// clean returns a text without the secrets.
func (s secrets) clean(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "")
	}
	return text
}

// strip returns a value without the secrets and without what repeats the request, and whether it had any of them.
func (s secrets) strip(v any, depth int) (kept any, had bool) {
	if depth == 0 {
		return nil, true
	}
	switch v := v.(type) {
	case map[string]any:
		v = maps.Clone(v)
		for name, below := range v {
			if echoes(name) {
				delete(v, name)
				had = true
				continue
			}
			inner, changed := s.strip(below, depth-1)
			v[name], had = inner, had || changed
		}
		return v, had
	case []any:
		v = slices.Clone(v)
		for i, below := range v {
			inner, changed := s.strip(below, depth-1)
			v[i], had = inner, had || changed
		}
		return v, had
	case string:
		if inner := nested(v); inner != nil {
			if inner, had = s.strip(inner, depth-1); had {
				text, _ := marshal(inner) // what was decoded always marshals
				return string(text), true
			}
			return v, false
		}
		text := s.clean(v)
		return text, text != v
	}
	return v, false
}

// marshal is json.Marshal with URLs as they are written.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// maxNested bounds how deep secrets are looked for, texts that hold JSON included.
const maxNested = 2 * payload.MaxDepth
