package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// loadCommand is the first argument of the process that generates load.
const loadCommand = "generate-load"

// taskMark holds the place of a callback's task id: as long as one of the provider's. Its first half becomes the time of
// sending, so that a consumer can tell how long the callback took, its second half a number.
const taskMark = "tttttttttttttttttttttttttttttttt"

// mark puts taskMark in the place of the callback's task id.
func mark(body string) (string, error) {
	var callback struct {
		Data struct {
			TaskID string `json:"task_id"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &callback); err != nil {
		return "", err
	}
	if len(callback.Data.TaskID) != len(taskMark) {
		return "", fmt.Errorf("a task id of %d characters was expected", len(taskMark))
	}
	return strings.Replace(body, callback.Data.TaskID, taskMark, 1), nil
}

// job describes the load that the generator is asked for.
type job struct {
	Addresses   []string // connections spread over them
	Path        string
	Body        string
	Connections int
	Duration    time.Duration // the end of it, if there is no Count
	Count       int           // requests in all
	PerSecond   int           // 0: as fast as the answers come
	Again       time.Duration // when a callback that is answered 503 is sent again; 0: it ends the job
}

// outcome holds the generator's measurements.
type outcome struct {
	Requests int
	Took     time.Duration
	P50, P99 time.Duration // of the answers
}

func (o outcome) perSecond() float64 { return float64(o.Requests) / o.Took.Seconds() }

// load runs a job in a process of its own.
func load(j job) (outcome, error) {
	var o outcome
	text, err := json.Marshal(j)
	if err != nil {
		return o, err
	}
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	cmd := exec.Command(self, loadCommand)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return o, fmt.Errorf("the load generator: %w", err)
	}
	return o, json.Unmarshal(out, &o)
}

// generate is the process that load starts.
func generate() {
	var j job
	err := json.NewDecoder(os.Stdin).Decode(&j)
	if err == nil {
		var o outcome
		if o, err = j.run(); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(o)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func (j job) run() (outcome, error) {
	var (
		tickets  atomic.Int64 // requests begun
		working  sync.WaitGroup
		mu       sync.Mutex
		took     []time.Duration
		failures []error
	)
	start := time.Now()
	// next is the number of the request to send, once it is due; false at the end.
	next := func() (int64, bool) {
		n := tickets.Add(1)
		if j.Count > 0 && n > int64(j.Count) || j.Count == 0 && time.Since(start) > j.Duration {
			return 0, false
		}
		if j.PerSecond > 0 {
			<-time.After(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(j.PerSecond))))
		}
		return n, true
	}
	for n := range j.Connections {
		working.Go(func() {
			mine, err := j.connection(j.Addresses[n%len(j.Addresses)], next)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err != nil {
				failures = append(failures, err)
			}
		})
	}
	working.Wait()
	o := outcome{Requests: len(took), Took: time.Since(start)}
	if err := errors.Join(failures...); err != nil {
		return o, err
	}
	o.P50, o.P99 = quantile(took, .5), quantile(took, .99)
	return o, nil
}

// connection sends requests on one connection and gives how long each answer took.
func (j job) connection(address string, next func() (int64, bool)) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 4<<10)
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n%s",
		j.Path, address, len(j.Body), j.Body)
	at := bytes.Index(request, []byte(taskMark))
	task := request[at : at+len(taskMark)]
	var took []time.Duration
	for {
		n, ok := next()
		if !ok {
			return took, nil
		}
		sent := time.Now()
		copy(task, fmt.Sprintf("%016x%016x", sent.UnixNano(), n))
		for status := "503"; status != "200"; {
			if _, err := conn.Write(request); err != nil {
				return took, err
			}
			if status, err = readAnswer(answers); err != nil {
				return took, err
			}
			switch {
			case status == "503" && j.Again > 0:
				<-time.After(j.Again)
			case status != "200":
				return took, fmt.Errorf("the answer is %s", status)
			}
		}
		took = append(took, time.Since(sent))
	}
}

// readAnswer reads one response with a Content-Length and gives its status.
func readAnswer(r *bufio.Reader) (status string, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if len(line) < len("HTTP/1.1 200") {
		return "", fmt.Errorf("no status line: %q", line)
	}
	status = string(line[9:12])
	return status, skipMessage(r, nil)
}

// skipMessage reads headers and body. The body goes into keep, if there is one, as far as it fits.
func skipMessage(r *bufio.Reader, keep []byte) error {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	n, err := io.ReadFull(r, keep[:min(len(keep), length)])
	if err != nil {
		return err
	}
	_, err = r.Discard(length - n)
	return err
}
