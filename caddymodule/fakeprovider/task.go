package fakeprovider

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"
)

// task is one that was submitted. The server's mutex guards its last fields.
type task struct {
	api  *api
	id   string
	url  string // to call back
	fate Fate
	urls map[string]string // of the files, by name

	progress  int            // steps of the API's life that are over
	asked     int            // by whoever wants the details
	served    map[string]int // requests, by name of the file
	exception bool           // the last callback failed for good
	calls     []Callback
}

// Callback is a callback that was sent.
type Callback struct {
	Body   []byte
	Status int    // zero: Error says why there was none
	Error  string // without the URL
}

// Task holds what the server knows of a task.
type Task struct {
	ID, API     string // the API is named by the path of its details below /api/v1/
	CallbackURL string
	Fate        Fate
	Done        bool // the details have the result
	Asked       int  // questions about it
	Callbacks   []Callback
	Files       []File
}

// Tasks returns all tasks, in the order of their submission.
func (s *Server) Tasks() []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Task, len(s.order))
	for i, t := range s.order {
		list[i] = Task{
			ID: t.id, API: t.api.details, CallbackURL: t.url, Fate: t.fate, Done: t.done(), Asked: t.asked,
			Callbacks: slices.Clone(t.calls), Files: s.filesOf(t),
		}
	}
	return list
}

func (t *task) done() bool { return t.progress >= len(t.api.running) }

// live leads a task through its states, and calls back.
func (s *Server) live(t *task) {
	steps := len(t.api.running)
	for i := range steps {
		if !s.wait(s.opts.Delay / time.Duration(steps)) {
			return
		}
		stage := ""
		if t.api.stages != nil {
			stage = t.api.stages[i]
		}
		s.mu.Lock()
		t.progress++
		body := t.fill(t.api.callback, stage)
		s.mu.Unlock()
		last := i == steps-1
		if t.fate.Never || t.url == "" || !last && (t.api.stages == nil || t.fate.Code != 0) {
			continue
		}
		s.wg.Go(func() {
			if last && !s.wait(time.Duration(t.fate.Late*float64(time.Second))) {
				return
			}
			s.callBack(t, body, last)
		})
	}
}

// callBack sends a callback until it is answered by a 200, and as often again as the task's fate has it.
func (s *Server) callBack(t *task, body []byte, last bool) {
	for attempt := 0; !s.post(t, body); attempt++ {
		if attempt == len(Retries) {
			s.mu.Lock()
			t.exception = t.exception || last
			s.mu.Unlock()
			return
		}
		if !s.wait(Retries[attempt]) {
			return
		}
	}
	for range t.fate.Repeat {
		s.post(t, body)
	}
}

// post sends a callback once. It reports whether it was answered by a 200.
func (s *Server) post(t *task, body []byte) bool {
	c := Callback{Body: body}
	status, err := s.send(t.url, body)
	if c.Status = status; err != nil {
		c.Error = err.Error()
	}
	if s.ctx.Err() != nil {
		return false // the server's end is no outcome
	}
	s.mu.Lock()
	t.calls = append(t.calls, c)
	s.mu.Unlock()
	if s.opts.Log != nil {
		s.opts.Log(t.id, c)
	}
	return status == http.StatusOK
}

func (s *Server) send(url string, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.opts.Client.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	_ = response.Body.Close() // the status is all that counts
	return response.StatusCode, nil
}
