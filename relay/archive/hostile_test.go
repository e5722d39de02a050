package archive_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
	"github.com/callbackrelay/caddy-relay/relay/payload"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// allocated fails the test if f allocates more than most bytes. What the search does too often it allocates too often, too, so
// that this bounds its time as well, on a machine of any speed.
func allocated(t *testing.T, most uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%d bytes were allocated", n)
	}
}

// reads is a provider that reports each reading.
type reads struct {
	relay.Provider
	called func()
}

func (r reads) Read(body []byte, header http.Header, opts relay.ReadOptions) (relay.Reading, error) {
	r.called()
	return r.Provider.Read(body, header, opts)
}

// notArchived runs an attempt that stores nothing, and returns why.
func notArchived(ctx context.Context, t *testing.T, a *archive.Archive, body string) *relay.ArchiveError {
	t.Helper()
	stored, err := a.Archive(ctx, &relay.Event{ID: eventID, Body: []byte(body)}, nil)
	failed, ok := errors.AsType[*relay.ArchiveError](err)
	if !ok || len(stored) != 0 {
		t.Fatal(stored, err)
	}
	return failed
}

func TestHostileDepth(t *testing.T) {
	const levels = 100_000
	a := rewriting(provider.Suno(), payload.JSON)
	for name, text := range map[string]string{
		"arrays":     strings.Repeat("[", levels) + `\"https://h/b\"` + strings.Repeat("]", levels),
		"objects":    strings.Repeat(`{\"a\":`, levels) + `\"https://h/b\"` + strings.Repeat("}", levels),
		"unfinished": strings.Repeat("[", levels) + "://",
	} {
		t.Run(name, func(t *testing.T) {
			ev := &relay.Event{Body: fmt.Appendf(nil, `{"data":{"task_id":"1","note":"%s","image_url":"https://h/a"}}`, text)}
			allocated(t, 32<<20, func() {
				files := archive.Fields(a, ev)
				if len(files) != 1 || files[0].Field != "data.image_url" {
					t.Errorf("%d files", len(files))
				}
			})
		})
	}
}

func TestHostileKey(t *testing.T) {
	custom, err := provider.Custom(provider.Paths{TaskID: []string{"id"}, FilesUnder: []string{"out"}})
	if err != nil {
		t.Fatal(err)
	}
	a := rewriting(custom, payload.JSON)
	for name, key := range map[string]string{"plain": strings.Repeat("k", 1<<20), "escaped": strings.Repeat(".", 1000)} {
		t.Run(name, func(t *testing.T) {
			body := `{"id":"1","out":{"` + key + `":["https://h/a"` + strings.Repeat(`,"https://h/a"`, 100_000-1) + `]}}`
			allocated(t, 192<<20, func() {
				failed := notArchived(t.Context(), t, a, body)
				want := "the event names 10000 files, of which 0 are archived; 10000 are past 4096 places of URLs, or at paths of more than 1024 bytes"
				if failed.Failed != 10_000 || !failed.Final || failed.Error() != want {
					t.Errorf("%+v", failed)
				}
				ev := &relay.Event{Body: []byte(body)}
				if got := a.Rewrite(ev, []relay.File{{URL: "https://h/a", Object: "f"}}); string(got) != body {
					t.Error("something was rewritten")
				}
			})
		})
	}
}

// A long path is that of one file alone.
func TestLongPath(t *testing.T) {
	a := rewriting(provider.Suno(), payload.JSON)
	key := strings.Repeat("k", 1020)
	ev := &relay.Event{Body: fmt.Appendf(nil, `{"data":{"task_id":"1","vocal_removal_info":{"%s_url":"https://h/a","b_url":"https://h/b"}}}`, key)}
	files := archive.Fields(a, ev)
	if len(files) != 1 || files[0].Field != "data.vocal_removal_info.b_url" {
		t.Errorf("%v", files)
	}
	if failed := notArchived(t.Context(), t, a, string(ev.Body)); failed.Failed != 2 || failed.Others != 1 || !failed.Final {
		t.Errorf("%+v", failed)
	}
	if got := string(a.Rewrite(ev, []relay.File{{Field: files[0].Field, URL: "https://h/b", Object: "f"}})); !strings.Contains(got, `"https://h/a","b_url":"https://x.example/f"`) {
		t.Error(got[len(got)-100:])
	}
}

// Each place in a text is found on from the one before.
func TestHostileCopies(t *testing.T) {
	const copies = 5000
	a := rewriting(provider.Suno(), payload.JSON)
	list := slices.Repeat([]string{`\"https:\\/\\/h\\/1\"`}, copies)
	body := func(list []string) string {
		return `{"data":{"taskId":"1","resultJson":"{\"resultUrls\":[` + strings.Join(list, ",") + `]}"}}`
	}
	ev := &relay.Event{Body: []byte(body(list))}
	allocated(t, 64<<20, func() {
		files := archive.Fields(a, ev)
		if len(files) != 4096 {
			t.Fatalf("%d files", len(files))
		}
		last := files[len(files)-1]
		if last.Field != "data.resultJson.resultUrls.4095" {
			t.Error(last.Field)
		}
		last.Object = "f"
		list[4095] = `\"https://x.example/f\"`
		if got := string(a.Rewrite(ev, []relay.File{last})); got != body(list) {
			t.Error("something else was rewritten")
		}
	})
	if failed := notArchived(t.Context(), t, rewriting(provider.Suno(), payload.JSON), string(ev.Body)); failed.Failed != copies {
		t.Errorf("%+v", failed)
	}
}

// A stop ends the search, however much of it is left.
func TestSearchStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	a := rewriting(reads{provider.Suno(), func() { asked++; cancel() }}, payload.JSON)
	body := `{"data":{"task_id":"1","image_url":"https://h/a","note":["https://h/a"` + strings.Repeat(`,"https://h/a"`, 300) + `]}}`
	if failed := notArchived(ctx, t, a, body); failed.Error() != "the gateway stopped" || failed.Failed != 1 || failed.Final {
		t.Errorf("%+v", failed)
	}
	if asked != 1 {
		t.Errorf("the body was read %d times", asked)
	}
}
