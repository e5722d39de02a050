package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// maxLine bounds a line of an answer that comes in lines.
const maxLine = 64 << 10

// bulk posts a request that may take long, and shows on a terminal how far it is. total is how much there is to do, where it is
// known.
func (c *call) bulk(ctx context.Context, path string, body any, label string, total int) (json.RawMessage, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	res, err := c.send(ctx, c.stepWithin, http.MethodPost, path, nil, http.Header{
		"Content-Type": {"application/json"}, "Accept": {api.ProgressType + ", application/json"},
	}, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("Content-Type") != api.ProgressType {
		return c.readAll(ctx, res.Body)
	}
	bar := newProgress(c.terminal, label, total)
	defer bar.end()
	answer, err := follow(res.Body, bar.show)
	if why := givenUp(ctx, err); why != nil {
		err = why
	}
	return answer, err
}

// follow reads lines of progress up to the answer, which is the last line.
func follow(body io.Reader, show func(done int)) (json.RawMessage, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line, err := decode[struct {
			api.Error
			Progress *int `json:"progress"`
		}](lines.Bytes(), nil)
		switch {
		case err != nil:
			return nil, err
		case line.Message != "":
			return nil, &line.Error
		case line.Progress == nil:
			return bytes.Clone(lines.Bytes()), nil
		}
		show(*line.Progress)
	}
	return nil, fmt.Errorf("the answer breaks off, and what was done until then stays done: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}
