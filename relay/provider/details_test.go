package provider_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

var readers = map[string]relay.Provider{"suno": provider.Suno(), "kie": provider.Kie()}

func judge(p relay.Provider, api, taskID string, status int, body string) relay.Verdict {
	return p.(relay.DetailsReader).Judge(api, taskID, status, []byte(body))
}

// kinds are the verdicts by the first word that the list of fixtures has for them.
var kinds = map[string]relay.VerdictKind{
	"pending": relay.VerdictPending, "pending,": relay.VerdictPending, "success": relay.VerdictSuccess, "failed": relay.VerdictFailed,
	"ask": relay.VerdictAgain, "stop:": relay.VerdictRefused,
}

func TestDetails(t *testing.T) {
	folder := filepath.Join("testdata", "details")
	var list []struct {
		File, Endpoint, Verdict string
		Files                   []string
	}
	text, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil || len(list) < 39 {
		t.Fatal(len(list), err)
	}
	for _, want := range list {
		body, err := os.ReadFile(filepath.Join(folder, want.File))
		if err != nil {
			t.Fatal(err)
		}
		kind, ok := kinds[want.Verdict]
		if !ok {
			kind, ok = kinds[strings.Fields(want.Verdict)[0]]
		}
		if !ok {
			t.Fatalf("%s: the verdict %q", want.File, want.Verdict)
		}
		endpoint := strings.TrimPrefix(strings.TrimSuffix(want.Endpoint, " (POST)"), "/")
		if endpoint == "any" {
			endpoint = "api/v1/mp4/generate"
		}
		var said struct{ Data struct{ TaskID string } }
		_ = json.Unmarshal(body, &said)
		for name, p := range readers {
			v := judge(p, endpoint, said.Data.TaskID, 200, string(body))
			if v.Kind != kind || v.Reason == "" {
				t.Errorf("%s: %s: %+v, not %d", name, want.File, v, kind)
			}
			if final := kind == relay.VerdictSuccess || kind == relay.VerdictFailed; final != (v.Body != nil) {
				t.Errorf("%s: %s: the callback is %s", name, want.File, v.Body)
			} else if !final {
				continue
			}
			got, err := p.Read(v.Body, nil, relay.ReadOptions{})
			if err != nil || got.ID != said.Data.TaskID || !slices.Equal(sorted(got.Files), sorted(want.Files)) {
				t.Errorf("%s: %s: %+v, %v of %s", name, want.File, got, err, v.Body)
			}
			if (got.Code == "200") != (kind == relay.VerdictSuccess) {
				t.Errorf("%s: %s: code %s", name, want.File, got.Code)
			}
			for _, secret := range []string{"SECRET-IN-URL", "hooks.example.com", "files.example.com/in", "allBackUrl", "callbackUrl"} {
				if bytes.Contains(v.Body, []byte(secret)) {
					t.Errorf("%s: %s: %s has %s", name, want.File, v.Body, secret)
				}
			}
		}
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// camel returns a callback's value as details spell it.
func camel(v any) any {
	switch v := v.(type) {
	case map[string]any:
		to := map[string]any{}
		for name, below := range v {
			words := strings.Split(name, "_")
			for i, w := range words[1:] {
				words[i+1] = strings.ToUpper(w[:1]) + w[1:]
			}
			to[strings.Join(words, "")] = camel(below)
		}
		return to
	case []any:
		to := make([]any, len(v))
		for i := range v {
			to[i] = camel(v[i])
		}
		return to
	}
	return v
}

// TestDetailsLikeCallback answers about the task of a callback, and expects a callback that is read as the real one is.
func TestDetailsLikeCallback(t *testing.T) {
	type object = map[string]any
	response := func(state string, value any) func(object) object {
		return func(data object) object {
			name := "response"
			if state == "success" {
				name = "videoInfo"
			}
			flag := map[string]string{"SUCCESS": "successFlag", "success": "state"}[state]
			if flag == "" {
				flag = "successFlag"
			}
			of := any(data)
			if key, ok := value.(string); ok {
				of = data[key]
			}
			return object{flag: state, name: camel(of), "errorCode": 400, "failCode": 400}
		}
	}
	failed := func(field, state string, code any) func(object) object {
		return func(object) object {
			return object{field: state, "response": nil, "errorCode": code, "errorMessage": "no"}
		}
	}
	list := func(name string) func(object) object {
		return func(data object) object {
			return object{"status": "SUCCESS", "response": object{name: camel(data["data"])}}
		}
	}
	same := func(data object) object {
		data["callBackUrl"], data["param"] = "https://hooks.example.com/?token=T", `{"callBackUrl":"https://hooks.example.com/?token=T"}`
		return data
	}
	for _, c := range []struct {
		file, api string
		details   func(object) object
	}{
		{"suno-music-complete.json", "generate", list("sunoData")},
		{"kie-music-complete.json", "generate/extend", list("sunoData")},
		{"kie-replace-section-complete.json", "generate/replace-section", list("sunoData")},
		{"kie-music-error-413.json", "generate/upload-cover", failed("status", "GENERATE_AUDIO_FAILED", 413)},
		{"kie-music-error-501.json", "generate", failed("status", "CREATE_TASK_FAILED", nil)},
		{"suno-music-error-null.json", "generate", failed("status", "SENSITIVE_WORD_ERROR", "")},
		{"suno-lyrics.json", "lyrics", list("data")},
		{"kie-lyrics.json", "lyrics", list("lyricsData")},
		{"suno-separate-vocal.json", "vocal-removal/generate", response("SUCCESS", "vocal_removal_info")},
		{"suno-split-stem.json", "vocal-removal/generate", response("SUCCESS", "vocal_removal_info")},
		{"suno-separate-origin-data.json", "vocal-removal/generate", response("SUCCESS", "vocal_removal_info")},
		{"kie-separate-vocal.json", "vocal-removal/generate", response("CALLBACK_EXCEPTION", "vocal_separation_info")},
		{"kie-separate-advanced.json", "vocal-removal/generate", response("SUCCESS", "vocal_removal_info")},
		{"kie-separate-failed.json", "vocal-removal/generate", failed("successFlag", "GENERATE_AUDIO_FAILED", 500)},
		{"kie-wav.json", "wav/generate", response("SUCCESS", nil)},
		{"suno-wav-failed.json", "wav/generate", failed("successFlag", "GENERATE_WAV_FAILED", "400")},
		{"suno-mp4.json", "mp4/generate", response("SUCCESS", nil)},
		{"kie-mp4-failed.json", "mp4/generate", failed("successFlag", "GENERATE_MP4_FAILED", nil)},
		{"suno-cover-images.json", "suno/cover/generate", response("1", nil)},
		{"suno-cover-failed.json", "suno/cover/generate", failed("successFlag", "3", 200)},
		{"kie-midi.json", "midi/generate", func(data object) object { return object{"midiData": data, "successFlag": 1} }},
		{"suno-midi-toplevel.json", "midi/generate", func(data object) object { return object{"midiData": data, "successFlag": "1"} }},
		{"kie-midi-failed.json", "midi/generate", failed("successFlag", "2", nil)},
		{"kie-voice-1-validate.json", "voice/validate", same},
		{"kie-voice-3-generated.json", "voice/generate", same},
		{"kie-veo.json", "veo/generate", response("1", "info")},
		{"kie-veo-failed-422.json", "veo/generate", failed("successFlag", "2", 422)},
		{"kie-veo-4k.json", "veo/get-4k-video", func(data object) object { return data["info"].(object) }},
		{"kie-4o-image.json", "gpt4o-image/generate", response("1", "info")},
		{"kie-runway.json", "runway/generate", response("success", nil)},
		{"kie-aleph.json", "aleph/generate", response("1", nil)},
		{"kie-market.json", "jobs/createTask", same},
		{"kie-market-failed.json", "jobs/createTask", same},
		{"kie-code-string.json", "jobs/createTask", same},
	} {
		p := readers[strings.Split(c.file, "-")[0]]
		callback := readFile(t, c.file)
		want, err := p.Read(callback, nil, relay.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var top struct{ Data object }
		if err := json.Unmarshal(callback, &top); err != nil {
			t.Fatal(err)
		}
		data := c.details(top.Data)
		data["taskId"] = want.ID
		delete(data, "task_id")
		body, _ := json.Marshal(object{"code": 200, "msg": "success", "data": data})
		v := judge(p, "api/v1/"+c.api, want.ID, 200, string(body))
		got, err := p.Read(v.Body, nil, relay.ReadOptions{})
		if err != nil || got.ID != want.ID || got.Stage != want.Stage || got.Code != want.Code ||
			!slices.Equal(sorted(got.Files), sorted(want.Files)) || !slices.Equal(sorted(got.URLs), sorted(want.URLs)) {
			t.Errorf("%s: %+v, not %+v, %v: %s of %s", c.file, got, want, err, v.Body, body)
		}
		if bytes.Contains(v.Body, []byte("token=")) {
			t.Errorf("%s: %s", c.file, v.Body)
		}
	}
}
