package provider_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// manifest is an entry of the list with the right reading of each fixture.
type manifest struct {
	File          string
	TaskID        string `json:"task_id"`
	Stage, Code   string
	Files         []string
	OptionalFiles []string `json:"optional_files"` // may be read or not: source_* of a track, and streams, which newFamily leaves out
}

func readManifest(tb testing.TB) (list []manifest) {
	tb.Helper()
	if err := json.Unmarshal(readFile(tb, "manifest.json"), &list); err != nil {
		tb.Fatal(err)
	}
	if len(list) < 40 {
		tb.Fatalf("%d fixtures", len(list))
	}
	return list
}

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "family", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestFamily(t *testing.T) {
	for _, want := range readManifest(t) {
		body := readFile(t, want.File)
		for name, p := range map[string]relay.Provider{"suno": provider.Suno(), "kie": provider.Kie()} {
			got, err := p.Read(body, nil, relay.ReadOptions{})
			if err != nil {
				t.Errorf("%s: %s: %v", name, want.File, err)
				continue
			}
			if got.ID != want.TaskID || got.Stage != want.Stage || got.Code != want.Code {
				t.Errorf("%s: %s: %+v, not %+v", name, want.File, got.Task, want)
			}
			sure := slices.DeleteFunc(slices.Clone(got.Files), func(url string) bool { return slices.Contains(want.OptionalFiles, url) })
			if !slices.Equal(sure, want.Files) {
				t.Errorf("%s: %s: files %q, not %q", name, want.File, sure, want.Files)
			}
			if got.FilesTotal != len(got.Files) {
				t.Errorf("%s: %s: %d files of %d", name, want.File, len(got.Files), got.FilesTotal)
			}
			for _, url := range got.Files {
				if strings.Contains(url, "?stream") || strings.HasPrefix(url, "https://mfile") {
					t.Errorf("%s: %s: %s is a stream", name, want.File, url)
				}
			}
		}
	}
}

func TestFamilyTaskID(t *testing.T) {
	for body, want := range map[string]string{
		`{"data":{"task_id":"a"}}`:    "a",
		`{"data":{"taskId":"a"}}`:     "a",
		`{"task_id":"a","data":null}`: "a",
		`{"taskId":"a"}`:              "a",
		`{"taskId":"a","task_id":"a","data":{"task_id":"a","taskId":"a"}}`:      "a",
		`{"task_id":null,"taskId":"","data":{"task_id":"","taskId":"a"}}`:       "a",
		"\xef\xbb\xbf" + `{"data":{"task_id":"a"}}`:                             "a",
		`{"data":{"task_id":"a"},"taskId":"b"}`:                                 "!two tasks",
		`{"data":{"task_id":"a"},"taskId":7}`:                                   "!not a string",
		`{"data":{"task_id":7}}`:                                                "!not a string",
		`{"data":{"task_id":["a"]}}`:                                            "!not a string",
		`{"data":{"task_id":""}}`:                                               "!no task id at data.task_id or data.taskId or task_id or taskId",
		`{"data":{"param":"{\"taskId\":\"a\"}","info":{"task_id":"a"}}}`:        "!no task id",
		`{"data":{"task_id":"a"},"data":{"task_id":"b"}}`:                       "!is repeated",
		`{"data":{"taskId":"a","resultJson":"{\"taskId\":\"b\"}","x":[]},"":1}`: "a",
	} {
		got, err := provider.Suno().Read([]byte(body), nil, relay.ReadOptions{})
		if message, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %v, not %q", body, err, message)
			}
		} else if err != nil || got.ID != want {
			t.Errorf("%s: %q, %v", body, got.ID, err)
		}
	}
}

func TestFamilyStageAndCode(t *testing.T) {
	for data, want := range map[string][2]string{
		`"callbackType":"text","state":"s","status":"u"`:  {"text", ""},
		`"callbackType":"","state":"success"`:             {"success", ""},
		`"callbackType":null,"state":null,"status":"u"`:   {"u", ""},
		`"status":3},"code":"200","x":{`:                  {"3", "200"},
		`"callbackType":"a","state":{}},"code":2e2,"x":{`: {"a", "200"},
		`"data":[{"status":"complete"}],"error":"text"`:   {"", ""},
	} {
		body := `{"data":{"taskId":"t",` + data + `}}`
		got, err := provider.Kie().Read([]byte(body), nil, relay.ReadOptions{})
		if err != nil || got.Stage != want[0] || got.Code != want[1] {
			t.Errorf("%s: %q, %q, %v", body, got.Stage, got.Code, err)
		}
	}
}

func TestFamilyFiles(t *testing.T) {
	for data, want := range map[string][]string{
		// Every result field, in both spellings, with the shapes of its API.
		`"audioWavUrl":"https://w"`:                                                                                          {"https://w"},
		`"audio_wav_url":"https://w"`:                                                                                        {"https://w"},
		`"video_url":"HTTPS://v","image_url":"http://i"`:                                                                     {"HTTPS://v", "http://i"},
		`"result_video_url":"https://v","result_image_url":"https://i"`:                                                      {"https://v", "https://i"},
		`"images":["https://1","https://2"]`:                                                                                 {"https://1", "https://2"},
		`"result_urls":["https://1"],"media_ids":["m"],"image_urls":["https://2"]`:                                           {"https://1", "https://2"},
		`"promptJson":"{\"videoUrl\":\"https://echo\"}","resultUrls":["https://1"]`:                                          {"https://1"},
		`"info":{"originImageUrl":"","resultImageUrl":"https://r"}`:                                                          {"https://r"},
		`"info":{"resultUrls":null,"originUrls":["https://o"],"resolution":"https://no"}`:                                    {"https://o"},
		`"info":{"result_urls":["https:\/\/r\/a b.png","https://ä"]}`:                                                        {"https://r/a b.png", "https://ä"},
		`"vocal_separation_info":{"origin_data":[{"extract":{"audio_url":"https://e"},"remove":{"audio_url":"https://r"}}]}`: {"https://e", "https://r"},
		`"data":[{"audio_url":"https://a","image_url":"","source_image_url":"https://s"}]`:                                   {"https://a", "https://s"},
		// What is named like a file and is none.
		`"data":[{"stream_audio_url":"https://s","sourceStreamAudioUrl":"https://s","streamAudioUrl":"https://s","callBackUrl":"https://c","callback_url":"https://c","prompt":"https://p"}]`: nil,
		`"info":{"param":{"image_url":"https://e"},"promptJson":{"url":"https://e"},"generateParam":["https://e"],"input":{"image_urls":["https://e"]},"Callbackurl":"https://c"}`:            nil,
		`"param":{"video_url":"https://e"},"input":{"image_urls":["https://e"]},"callbackUrl":"https://c","uploadUrl":"https://u"`:                                                            nil,
		`"data":"https://text","error":"https://text"`:                                                           nil,
		`"data":["a text"],"images":["no"],"info":"https://text","video_url":["https://"],"image_url":"ftp://i"`: nil,
		// JSON inside a text.
		`"resultJson":"{\"resultUrls\":[\"https://1\"],\"resultWaterMarkUrls\":[\"https://2\"]}"`:                               {"https://1", "https://2"},
		`"resultJson":"{\"resultObject\":{\"video\":\"https://v\",\"text\":\"https://a and b\",\"mask_url\":\"https://m a\"}}"`: {"https://v", "https://m a"},
		`"resultJson":"{\"resultObject\":[\"https://1 a\",[\"https://2 a\"]],\"images\":[\"https://3 a\",\"no\"]}"`:             {"https://1 a", "https://2 a", "https://3 a"},
		`"resultJson":"[\"https://1\"]"`: {"https://1"},
		`"resultJson":"{\"input\":{\"url\":\"https://e\"},\"streamUrl\":\"https://s\",\"callBackUrl\":\"https://c\"}"`: nil,
		`"resultJson":{"resultUrls":["https://1"]}`: {"https://1"},
		`"resultJson":""`:                                nil,
		`"resultJson":null`:                              nil,
		`"resultJson":"https://text"`:                    nil,
		`"resultJson":"{\"resultUrls\":[\"https://1\"]"`: nil,
		`"resultJson":"{\"url\":\"https://1\",` + strings.Repeat(`\"a\":[`, 70) + strings.Repeat(`]`, 70) + `}"`: nil,
		`"resultJson":"` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `"`:                               nil,
	} {
		body := `{"code":200,"data":{"taskId":"t",` + data + `}}`
		got, err := provider.Kie().Read([]byte(body), nil, relay.ReadOptions{})
		if err != nil || !slices.Equal(got.Files, want) {
			t.Errorf("%s: %q, %v, not %q", data, got.Files, err, want)
		}
	}
}
