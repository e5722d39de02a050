// Command consumer shows how to receive callbacks from Caddy Relay: it refuses what the gateway has not signed, and keeps
// each callback once, however often it arrives.
//
//	WEBHOOK_SECRET=whsec_… ADDRESS=127.0.0.1:9101 INBOX=inbox go run ./docs/examples/consumer
//
// The gateway delivers at least once, and repeats with the same webhook-id what it cannot know to have arrived. Whoever keeps
// callbacks in a database writes the id in the transaction that does the work, in a column with a unique index. Here a file
// by that name takes the place of the row.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	tolerance = 5 * time.Minute
	maxBody   = 32 << 20
)

func main() {
	if err := run(os.Getenv("WEBHOOK_SECRET"), os.Getenv("ADDRESS"), os.Getenv("INBOX")); err != nil {
		log.Fatal(err)
	}
}

// run serves until the server fails.
func run(secret, address, inbox string) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return errors.New("WEBHOOK_SECRET: expected whsec_ and base64, as in the gateway's `sign`")
	}
	if err := os.MkdirAll(inbox, 0o700); err != nil {
		return err
	}
	server := &http.Server{
		Addr:        address,
		Handler:     consumer{key, inbox},
		ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, // longer than the gateway keeps an idle connection, so that the gateway is who closes it
	}
	return server.ListenAndServe()
}

type consumer struct {
	key   []byte
	inbox string
}

// ServeHTTP answers 2xx only once the callback is on disk: from then on the gateway does not send it again.
func (c consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "expected POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body is too large, or was cut", http.StatusBadRequest)
		return
	}
	id := r.Header.Get("webhook-id")
	if !verify(c.key, id, r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), body, time.Now()) {
		http.Error(w, "not signed by the gateway", http.StatusUnauthorized)
		return
	}
	switch err := keep(c.inbox, id, body); {
	case errors.Is(err, fs.ErrExist):
		log.Printf("%s is here already", id)
	case err != nil:
		log.Printf("%s cannot be kept: %v", id, err)
		http.Error(w, "cannot be kept now", http.StatusServiceUnavailable)
		return
	default:
		log.Printf("%s of task %s is kept", id, r.Header.Get("Relay-Task-Id"))
	}
	w.WriteHeader(http.StatusNoContent)
}

// verify reports whether the signature is the gateway's, by the rules of https://www.standardwebhooks.com. It must see
// the body's bytes as they came: JSON that was parsed and written again has another signature.
func verify(key []byte, id, timestamp, signatures string, body []byte, now time.Time) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	want := mac.Sum(nil)
	for signature := range strings.FieldsSeq(signatures) { // two, while a secret is being replaced
		encoded, found := strings.CutPrefix(signature, "v1,")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if found && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

var fileName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// keep writes a callback to the inbox, and returns fs.ErrExist if it is there already. A file gets its name only once
// it is complete, so that whoever works through the inbox never sees half a callback.
func keep(inbox, id string, body []byte) error {
	if !fileName.MatchString(id) {
		return fmt.Errorf("webhook-id %q is no name for a file", id)
	}
	part, err := os.CreateTemp(inbox, ".part-")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.Write(body)
	if err := errors.Join(err, part.Sync(), part.Close()); err != nil {
		return err
	}
	if err := os.Link(part.Name(), filepath.Join(inbox, id+".json")); err != nil {
		return err
	}
	return syncFolder(inbox)
}

// syncFolder writes the names in a folder to disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
