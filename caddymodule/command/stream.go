package command

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// maxStreamEvent bounds one server-sent event. Errors of destinations are the longest part of what the gateway sends.
const maxStreamEvent = 1 << 20

// readStream calls handle for the data of each server-sent event, until the stream ends, which is an error too.
func readStream(stream io.Reader, handle func(data []byte) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxStreamEvent)
	var data bytes.Buffer
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if data.Len() > 0 {
				if err := handle(bytes.TrimSuffix(data.Bytes(), []byte("\n"))); err != nil {
					return err
				}
				data.Reset()
			}
			continue
		}
		// The event's type and id are in the data too. A line that begins with a colon is a comment.
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data.WriteString(strings.TrimPrefix(value, " ") + "\n")
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream has ended")
}
