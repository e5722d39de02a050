package intake_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/payload"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func family(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "provider", "testdata", "family", name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// What a store makes of a callback, by those before it.
const (
	event     = "event"
	duplicate = "duplicate"
	conflict  = "conflict"
)

// TestSequences follows the callbacks of one task, each of which comes twice.
func TestSequences(t *testing.T) {
	lyrics := family(t, "kie-lyrics.json")
	moderated := strings.NewReplacer(`"code":200`, `"code":400`, `[Verse]`, ``).Replace(lyrics)
	voice := family(t, "kie-voice-1-validate.json")
	regenerated := strings.Replace(voice, "Harmonies fill the air", "Rivers run below", 1)
	wav := family(t, "kie-wav.json")
	midi := family(t, "kie-midi.json")
	stream := family(t, "suno-music-text.json")
	for name, callbacks := range map[string][]struct{ body, want string }{
		"suno music": {{family(t, "suno-music-text.json"), event}, {family(t, "suno-music-first.json"), event}, {family(t, "suno-music-complete.json"), event}},
		"kie music":  {{family(t, "kie-music-text.json"), event}, {family(t, "kie-music-first.json"), event}, {family(t, "kie-music-complete.json"), event}},
		"lyrics":     {{lyrics, event}, {moderated, event}, {strings.Replace(lyrics, "rain", "snow", 1), conflict}},
		"voice":      {{voice, event}, {regenerated, conflict}, {family(t, "kie-voice-3-generated.json"), event}},
		"Veo, 4K":    {{family(t, "kie-veo.json"), event}, {family(t, "kie-veo-4k.json"), conflict}},
		"WAV":        {{wav, event}, {strings.Replace(wav, "aiquickdraw.com/s", "aiquickdraw.com/t", 1), conflict}, {strings.Replace(wav, `"code":200`, `"code":500`, 1), event}},
		"MIDI":       {{midi, event}, {strings.Replace(midi, `"pitch":60`, `"pitch":59`, 1), conflict}},
		"no file":    {{family(t, "suno-separate-failed.json"), event}, {strings.Replace(family(t, "suno-separate-failed.json"), "failed", "failed again", 1), conflict}},
		"stream":     {{stream, event}, {strings.Replace(stream, "mfile.erweima.ai/b370", "mfile.erweima.ai/c370", 1), conflict}},
		"files in another order, with another message": {
			{`{"code":200,"msg":"a","data":{"taskId":"t","images":["https://1","https://2"]}}`, event},
			{`{"data":{"images":["https://2","https://1"],"taskId":"t"},"code":"200","msg":"b"}`, duplicate},
		},
	} {
		for sender, p := range map[string]relay.Provider{"suno": provider.Suno(), "kie": provider.Kie()} {
			src := &relay.Source{Provider: p}
			said := map[[32]byte]map[[32]byte]bool{} // fingerprints by key
			for i, c := range callbacks {
				for repetition, want := range []string{c.want, duplicate} {
					id, err := intake.Identify(src, []byte(c.body), nil)
					if err != nil {
						t.Fatalf("%s: %s %d: %v", sender, name, i, err)
					}
					got := conflict
					switch {
					case said[id.Key] == nil:
						got = event
						said[id.Key] = map[[32]byte]bool{}
					case said[id.Key][id.Fingerprint]:
						got = duplicate
					}
					said[id.Key][id.Fingerprint] = true
					if got != want {
						t.Errorf("%s: %s, callback %d, repetition %d: %s, not %s", sender, name, i, repetition, got, want)
					}
				}
			}
		}
	}
}

// TestStoredHashesStay compares with the reference: stores keep keys and fingerprints for as long as a dedupe window lasts.
func TestStoredHashesStay(t *testing.T) {
	src := &relay.Source{Provider: provider.Suno(), Dedupe: append([]relay.DedupeField{
		{Kind: relay.DedupePath, Name: "msg"}, {Kind: relay.DedupePath, Name: "data"}, {Kind: relay.DedupeHeader, Name: "X-Id"},
	}, relay.DefaultDedupe...)}
	reference := newParser(referenceFamily)
	header := http.Header{"X-Id": {"<1>"}}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	url := func() string {
		return fmt.Sprintf("%s://h/%d%s", pick("https", "https", "http"), r.IntN(1000), pick("", "?a=1&b=2", " x.mp3", "ä", `\u00e9`, `\/`, "<>", "\u2028", "%20"))
	}
	compared := 0
	for range 2_000 {
		var results string
		for i := range r.IntN(30) {
			results += fmt.Sprintf(`,%s{"n":%d,"%s":"%s","%s":%s,"title":"%s"}`, pick("", " ", "\n"), i, pick("audio_url", "image_url", "sourceUrl", "stream_audio_url"), url(),
				pick("stream_audio_url", "imageUrl"), pick(`""`, "null", `"`+url()+`"`), url())
		}
		body := fmt.Sprintf(`{"code":%s,"msg":"%s","data":{"%s":"%s","callbackType":%s,"%s":[%s]}}`,
			pick("200", `"200"`, "2e2", "200.0", "null", "451", `"a&b"`), pick("ok", `<\"é`, "\u2029"), pick("task_id", "taskId"), pick("a", "b:c"),
			pick(`"text"`, `"a<b"`, "null", `"\u0061"`, "7"), pick("data", "vocal_removal_info"), strings.TrimPrefix(results, ","))
		want, err := referenceIdentify(reference, src.Dedupe, []byte(body), header)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		got, err := intake.Identify(src, []byte(body), header)
		if err != nil || got.ID != want.ID || got.Stage != want.Stage || got.Code != want.Code || got.Key != want.Key {
			t.Fatalf("%s:\n got %v, %v\nwant %v", body, got, err, want)
		}
		if len(want.Files) == 0 {
			continue
		}
		if compared++; got.Fingerprint != want.Fingerprint {
			t.Fatalf("%s: another fingerprint, of %q, not %q", body, got.Files, want.Files)
		}
	}
	if compared < 1_000 {
		t.Errorf("only %d fingerprints were compared", compared)
	}
}

func TestIdentifyAny(t *testing.T) {
	src := &relay.Source{Provider: provider.Suno(), Body: payload.Any}
	long := strings.Repeat("x", 200)
	seen := map[[32]byte]string{}
	for _, body := range []string{``, `[1]`, `[2]`, `text`, "\xff", `{"code":"` + long + `","data":{"status":"` + long + `"}}`, `{"data":{"task_id":"t"}}`} {
		id, err := intake.Identify(src, []byte(body), nil)
		if err != nil || len(id.ID) != 64 && id.ID != "t" || id.Stage != "" || id.Code != "" {
			t.Errorf("%.40q: %+v, %v", body, id, err)
		}
		if other, ok := seen[id.Key]; ok {
			t.Errorf("%.40q has the key of %.40q", body, other)
		}
		seen[id.Key] = body
	}
}

func TestFiles(t *testing.T) {
	src := &relay.Source{Provider: provider.Kie()}
	for body, want := range map[string]int{
		family(t, "kie-veo.json"):                   2,
		`{"data":{"images":["https://a"]}}`:         1, // without a task, too
		`{"data":{"images":["https://a"]}`:          0,
		`{"data":{"images":["https://a"],"a":1}} x`: 0,
	} {
		if files, total := intake.Files(src, []byte(body)); len(files) != want || total != want {
			t.Errorf("%s: %q, %d", body, files, total)
		}
	}
}
