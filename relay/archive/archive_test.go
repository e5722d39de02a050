package archive_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
)

func TestArchive(t *testing.T) {
	song := content(300_000)
	url := server(t, serve(song)) + "/a song.mp3?token=secret&x=1"
	o, folder := options(t)
	a := archive.New(o)
	stored, err := a.Archive(t.Context(), event(url), nil)
	if err != nil || len(stored) != 1 {
		t.Fatal(stored, err)
	}
	f := stored[0]
	if f.Field != field || f.URL != url || f.Size != int64(len(song)) || f.SHA256 != sum(song) || f.ContentType != "audio/mpeg" {
		t.Errorf("%+v", f)
	}
	if want := "vocals/2026-11-29/task-1/" + eventID + "-" + field; !strings.HasPrefix(f.Object, want) || !strings.HasSuffix(f.Object, ".mp3") {
		t.Errorf("object %s", f.Object)
	}
	kept, err := os.ReadFile(filepath.Join(folder, f.Object))
	if err != nil || sum(kept) != f.SHA256 {
		t.Error("the file is another one", err)
	}
	for name, mode := range map[string]os.FileMode{f.Object: 0o600, filepath.Dir(f.Object): 0o700, "": 0o700} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v %v", name, info.Mode(), err)
		}
	}
	if again, err := a.Archive(t.Context(), event(url), stored); err != nil || len(again) != 0 {
		t.Error("stored again:", again, err)
	}
	// An attempt whose outcome was lost stores under the same name.
	if again, err := a.Archive(t.Context(), event(url), nil); err != nil || again[0] != f {
		t.Error(again, err)
	}
	if names := files(t, folder); len(names) != 1 {
		t.Error(names)
	}
	want := strings.Replace(string(event(url).Body), fmt.Sprintf("%q", url), `"https://files.example.com/a/`+f.Object+`"`, 1)
	if got := a.Rewrite(event(url), stored); string(got) != want {
		t.Errorf("rewritten: %s", got)
	}
}

// Two events of a task, and two variants of an event, never share a file.
func TestArchiveNames(t *testing.T) {
	url := server(t, serve(content(10)))
	o, folder := options(t)
	a := archive.New(o)
	first, second, variant := event(url+"/1.mp3"), event(url+"/1.mp3"), event(url+"/2.mp3")
	second.ID = "01K5ZV9S5Q8VJ8A9YB0N7DQ2RZ"
	for _, ev := range []*relay.Event{first, second, variant} {
		if _, err := a.Archive(t.Context(), ev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if names := files(t, folder); len(names) != 3 {
		t.Error(names)
	}
	hostile := event(url + "/x.html")
	hostile.Source, hostile.TaskID = "..", "../../..:x"
	stored, err := a.Archive(t.Context(), hostile, nil)
	if err != nil || len(stored) != 1 {
		t.Fatal(err)
	}
	if name := stored[0].Object; !strings.HasPrefix(name, "_./2026-11-29/_._.._.._x/") || !strings.HasSuffix(name, ".mp3") {
		t.Error(name)
	}
	if names := files(t, folder); len(names) != 4 {
		t.Error(names)
	}
}

// What could be stored stays, whatever became of the rest.
func TestArchivePart(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone.mp3" {
			http.Error(w, "gone", http.StatusGone)
			return
		}
		serve(content(10))(w, r)
	})
	o, _ := options(t)
	ev := event(url)
	ev.Body = fmt.Appendf(nil, `{"data":{"task_id":"t","vocal_removal_info":{"a_url":"%s/gone.mp3","b_url":"%[1]s/b.mp3","c_url":"http://[::1]/c.mp3"}}}`, url)
	a := archive.New(o)
	stored, err := a.Archive(t.Context(), ev, nil)
	failed, ok := errors.AsType[*relay.ArchiveError](err)
	if !ok || len(stored) != 1 || failed.Failed != 2 || failed.Status != http.StatusGone || failed.Final {
		t.Fatalf("%v %+v", stored, err)
	}
	if want := "data.vocal_removal_info.a_url: the server answered 410; and 1 more failed"; err.Error() != want {
		t.Error(err)
	}
	body := string(a.Rewrite(ev, stored))
	if !strings.Contains(body, url+"/gone.mp3") || !strings.Contains(body, "https://files.example.com/a/"+stored[0].Object) || strings.Contains(body, "/b.mp3") {
		t.Error(body)
	}
}

func TestArchiveMany(t *testing.T) {
	var now, most atomic.Int64
	reached := make(chan struct{})
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		if n == archive.MaxFetches {
			select {
			case <-reached:
			default:
				close(reached)
			}
		}
		<-reached // all that may be fetched at once are
		serve(content(10))(w, r)
	})
	o, _ := options(t)
	names := make(chan string, 100)
	o.Storage = memory{names: names}
	ev := event(url)
	var list []string
	for i := range 40 {
		list = append(list, fmt.Sprintf(`{"audio_url":"%s/%d.mp3"}`, url, i))
	}
	ev.Body = []byte(`{"data":{"task_id":"t","data":[` + strings.Join(list, ",") + `]}}`)
	stored, err := archive.New(o).Archive(t.Context(), ev, nil)
	if len(stored) != archive.MaxFiles || len(names) != archive.MaxFiles {
		t.Error(len(stored), len(names))
	}
	if failed, ok := errors.AsType[*relay.ArchiveError](err); !ok || failed.Failed != 8 || !failed.Final {
		t.Error(err)
	}
	if most.Load() != archive.MaxFetches {
		t.Errorf("%d fetches at once", most.Load())
	}
}
