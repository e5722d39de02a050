package fakeprovider

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxRequest bounds a submission, in bytes.
const maxRequest = 1 << 20

// answer writes what the provider answers with: the HTTP status is 200 whatever the code.
func answer(w http.ResponseWriter, code int, msg string, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "msg": msg, "data": data}) // a client that hangs up needs none
}

// allowed reports whether a request has the key. If not, it is answered.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request) bool {
	if s.opts.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.opts.Key {
		answer(w, http.StatusUnauthorized, "You do not have access permissions", nil)
		return false
	}
	return true
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request, a *api) {
	if !s.allowed(w, r) {
		return
	}
	var request map[string]any
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, "The request is not a JSON object", nil)
		return
	}
	var own struct{ Fate *Fate }
	if err := json.Unmarshal(body, &own); err != nil {
		answer(w, http.StatusBadRequest, "The fate cannot be read: "+err.Error(), nil)
		return
	}
	if a.details == again4K && s.repeat4K(w, request["taskId"]) {
		return
	}
	s.mu.Lock()
	n := s.count
	s.count++
	fate := s.opts.Fate(n)
	if own.Fate != nil {
		fate = *own.Fate
	}
	if fate.Refuse != 0 {
		s.mu.Unlock()
		answer(w, fate.Refuse, "The submission was refused", nil)
		return
	}
	t := &task{
		api: a, id: fmt.Sprintf("%016x%016x", word(s.opts.Seed, 2*n), word(s.opts.Seed, 2*n+1)), fate: fate,
		urls: make(map[string]string), served: make(map[string]int),
	}
	if earlier, ok := request["taskId"].(string); ok && a.same {
		t.id = earlier
	}
	for name, value := range request {
		if folded := strings.ToLower(name); folded == "callbackurl" || folded == "calbackurl" {
			t.url, _ = value.(string)
		}
	}
	for _, name := range a.files {
		path := "/files/" + t.id + "/" + name
		t.urls[name] = s.URL + path
		s.files[path] = t
	}
	s.tasks[a.details+" "+t.id] = t
	s.order = append(s.order, t)
	s.mu.Unlock()
	s.wg.Go(func() { s.live(t) })
	answer(w, http.StatusOK, "success", map[string]any{"taskId": t.id})
}

// repeat4K answers a request for 4K that is not the first of its task. It reports whether it was.
func (s *Server) repeat4K(w http.ResponseWriter, id any) bool {
	s.mu.Lock()
	t := s.tasks[fmt.Sprintf("%s %s", again4K, id)]
	var data []byte
	if t != nil {
		data = t.fill(t.api.detail, "")
	}
	s.mu.Unlock()
	if t != nil {
		answer(w, http.StatusUnprocessableEntity, "4k is processing. It should be ready in 5-10 minutes.", json.RawMessage(data))
	}
	return t != nil
}

func (s *Server) details(w http.ResponseWriter, r *http.Request, a *api) {
	if !s.allowed(w, r) {
		return
	}
	s.mu.Lock()
	t := s.tasks[a.details+" "+r.URL.Query().Get("taskId")]
	var data json.RawMessage
	code := http.StatusOK
	if t != nil {
		if t.asked < len(t.fate.Asked) {
			code = t.fate.Asked[t.asked]
		}
		t.asked++
		data = t.fill(a.detail, "")
	}
	s.mu.Unlock()
	switch {
	case code != http.StatusOK:
		answer(w, code, "Ask later", nil)
	case t == nil && a.details == market:
		answer(w, http.StatusUnprocessableEntity, "recordInfo is null", nil)
	case t == nil:
		answer(w, code, "success", nil)
	default:
		answer(w, code, "success", data)
	}
}
