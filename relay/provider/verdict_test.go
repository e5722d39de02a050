package provider_test

import (
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func TestDetailsPath(t *testing.T) {
	for api, want := range map[string]string{
		"api/v1/generate":                                "api/v1/generate/record-info",
		"/api/v1/generate/":                              "api/v1/generate/record-info",
		"api/v1/generate?x=1":                            "api/v1/generate/record-info",
		"api/v1/generate/upload-cover":                   "api/v1/generate/record-info",
		"api/v1/generate/add-vocals":                     "api/v1/generate/record-info",
		"api/v1/generate/sounds":                         "api/v1/generate/record-info",
		"api/v1/mashup":                                  "api/v1/generate/record-info",
		"generate":                                       "generate/record-info",
		"eu/api/v1/lyrics":                               "eu/api/v1/lyrics/record-info",
		"api/v1/vocal-removal/generate":                  "api/v1/vocal-removal/record-info",
		"api/v1/wav/generate":                            "api/v1/wav/record-info",
		"api/v1/mp4/generate":                            "api/v1/mp4/record-info",
		"api/v1/suno/cover/generate":                     "api/v1/suno/cover/record-info",
		"api/v1/midi/generate":                           "api/v1/midi/record-info",
		"api/v1/voice/validate":                          "api/v1/voice/validate-info",
		"api/v1/voice/regenerate":                        "api/v1/voice/validate-info",
		"api/v1/voice/generate":                          "api/v1/voice/record-info",
		"api/v1/veo/generate":                            "api/v1/veo/record-info",
		"api/v1/veo/extend":                              "api/v1/veo/record-info",
		"api/v1/veo/get-4k-video":                        "api/v1/veo/get-4k-video",
		"api/v1/flux/kontext/generate":                   "api/v1/flux/kontext/record-info",
		"api/v1/aleph/generate":                          "api/v1/aleph/record-info",
		"api/v1/modify/generate":                         "api/v1/modify/record-info",
		"api/v1/gpt4o-image/generate":                    "api/v1/gpt4o-image/record-info",
		"api/v1/runway/generate":                         "api/v1/runway/record-detail",
		"api/v1/runway/extend":                           "api/v1/runway/record-detail",
		"api/v1/jobs/createTask":                         "api/v1/jobs/recordInfo",
		"api/v1/jobs/recordInfo":                         "api/v1/jobs/recordInfo",
		"":                                               "",
		"api/v1/":                                        "",
		"api/v1/veo":                                     "",
		"api/v1/generated":                               "",
		"xapi/v1/generate":                               "",
		"api/v1/api/v1/generate/record-info/record-info": "",
	} {
		path, ok := provider.Suno().(relay.DetailsReader).DetailsPath(api, "a b&c=1")
		if posted := provider.Suno().(relay.DetailsPoster).DetailsBody(api, "a"); (string(posted) == `{"taskId":"a"}`) != strings.HasSuffix(api, "4k-video") {
			t.Errorf("%s: %s", api, posted)
		}
		if want != "" {
			want += "?taskId=a+b%26c%3D1"
		}
		if path != want || ok != (want != "") {
			t.Errorf("%s: %s, %t, not %s", api, path, ok, want)
		}
	}
}

func TestJudge(t *testing.T) {
	const pending, success, failed, again, refused = relay.VerdictPending, relay.VerdictSuccess, relay.VerdictFailed, relay.VerdictAgain, relay.VerdictRefused
	for _, c := range []struct {
		api    string
		status int
		body   string
		want   relay.VerdictKind
	}{
		// Of the question, not of the task.
		{"generate", 429, `{"code":200,"data":{"status":"SUCCESS"}}`, again},
		{"generate", 503, ``, again},
		{"generate", 401, ``, refused},
		{"generate", 404, `<html>`, refused},
		{"generate", 302, ``, again},
		{"generate", 200, `<html>`, again},
		{"generate", 200, `{}`, again},
		{"generate", 200, `{"data":{"status":"SUCCESS"},"data":{"status":"FAILED"}}`, again},
		{"generate", 422, `{"code":422,"msg":"recordInfo is null","data":null}`, pending},
		{"generate", 200, `{"code":"404","msg":"not found"}`, refused},
		{"generate", 200, `{"code":433,"data":null}`, again},
		{"generate", 200, `{"code":500,"data":{"status":"SUCCESS"}}`, again},
		{"generate", 200, `{"code":501,"data":null}`, again},
		{"unknown", 200, `{"code":200,"data":{"status":"SUCCESS"}}`, refused},
		// Of the task.
		{"generate", 200, "\xef\xbb\xbf" + `{"code":"200","data":{"status":"SUCCESS"}}`, success},
		{"generate", 200, `{"code":2e2,"data":{"status":"SUCCESS"}}`, success},
		{"generate", 200, `{"code":501,"data":{"status":"GENERATE_AUDIO_FAILED"}}`, failed},
		{"generate", 200, `{"code":200,"data":{"taskId":"other","status":"SUCCESS"}}`, pending},
		{"generate", 200, `{"code":200,"data":{"task_id":"t","status":"TEXT_SUCCESS"}}`, pending},
		{"generate", 200, `{"code":200,"data":{"status":"NEW_STATE"}}`, pending},
		{"generate", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":null}}`, pending},
		{"generate", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","errorCode":500}}`, failed},
		{"generate", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":{"sunoData":[{"audioUrl":"https://a"},{"audioUrl":"","imageUrl":"https://i"}]}}}`, pending},
		{"generate", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":{"sunoData":[{"audioUrl":"https://a"}]}}}`, success},
		{"generate", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":{"suno_data":[{"audio_url":"https://a"}]}}}`, success},
		{"lyrics", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":{"data":[{"text":"la"}]}}}`, success},
		{"lyrics", 200, `{"code":200,"data":{"status":"CALLBACK_EXCEPTION","response":{"data":[]}}}`, pending},
		{"lyrics", 200, `{"code":200,"data":{"status":"GENERATE_LYRICS_FAILED"}}`, failed},
		{"wav/generate", 200, `{"code":200,"data":{"successFlag":"CALLBACK_EXCEPTION","response":{"audioWavUrl":"https://w"}}}`, success},
		{"wav/generate", 200, `{"code":200,"data":{"success_flag":"SUCCESS","errorCode":400}}`, success},
		{"mp4/generate", 200, `{"code":200,"data":{"successFlag":"CALLBACK_EXCEPTION","response":{"videoUrl":""}}}`, pending},
		{"mp4/generate", 200, `{"code":200,"data":{"successFlag":"CREATE_TASK_FAILED"}}`, failed},
		{"suno/cover/generate", 200, `{"code":200,"data":{"successFlag":"2"}}`, pending},
		{"suno/cover/generate", 200, `{"code":200,"data":{"success_flag":1.0}}`, success},
		{"midi/generate", 200, `{"code":200,"data":{"successFlag":2}}`, failed},
		{"midi/generate", 200, `{"code":200,"data":{"successFlag":3}}`, failed},
		{"veo/generate", 200, `{"code":200,"data":{"successFlag":4}}`, pending},
		{"veo/generate", 200, `{"code":200,"data":{"successFlag":-1}}`, pending},
		{"modify/generate", 200, `{"code":200,"data":{"successFlag":4,"response":{"resultUrls":["https://l"]}}}`, success},
		{"gpt4o-image/generate", 200, `{"code":200,"data":{"status":"GENERATING"}}`, pending},
		{"gpt4o-image/generate", 200, `{"code":200,"data":{"status":"GENERATE_FAILED"}}`, failed},
		{"voice/validate", 200, `{"code":200,"data":{"status":"wait_validating","validateInfo":"la"}}`, success},
		{"voice/generate", 200, `{"code":200,"data":{"status":"wait_validating"}}`, pending},
		{"voice/generate", 200, `{"code":200,"data":{"status":"fail"}}`, failed},
		{"veo/generate", 200, `{"code":200,"data":{"successFlag":3,"errorCode":"+0500","errorMessage":{"a":[]}}}`, failed},
		{"jobs/createTask", 200, `{"code":200,"data":{"state":"waiting"}}`, pending},
		{"jobs/createTask", 200, `{"code":200,"data":{"state":"success","failCode":"400","resultJson":""}}`, success},
		{"veo/get-4k-video", 200, `{"code":200,"data":{"taskId":"t","resultUrls":null}}`, pending},
		{"veo/get-4k-video", 200, `{"code":422,"data":{"taskId":"t","resultUrls":["https://4k"],"imageUrls":null}}`, success},
		{"veo/generate", 200, `{"code":422,"data":{"taskId":"t","resultUrls":["https://4k"]}}`, pending},
	} {
		for name, p := range readers {
			if v := judge(p, "api/v1/"+c.api, "t", c.status, c.body); v.Kind != c.want || v.Reason == "" {
				t.Errorf("%s: %s: %d %s: %+v, not %d", name, c.api, c.status, c.body, v, c.want)
			}
		}
	}
}

// TestJudgeHidesCallbackURL holds that no text of a verdict has the URL that the task's callback goes to.
func TestJudgeHidesCallbackURL(t *testing.T) {
	const url = "https://hooks.example.com/x?token=T"
	for api, data := range map[string]string{
		"jobs/createTask": `"state":"fail","failMsg":"cannot reach ` + url + `","callBackUrl":"` + url + `","x":{"call_back_url":"` + url + `"}`,
		"generate":        `"status":"CREATE_TASK_FAILED","errorMessage":"` + url + `","param":"{\"calBackUrl\":\"https:\/\/hooks.example.com\/x?token=T\"}"`,
		"vocal-removal/generate": `"successFlag":"SUCCESS","Callback_URL":"` + url + `","response":{"vocalUrl":"https://v","callbackUrl":"` + url + `",` +
			`"originUrl":"` + url + `"}`,
		"jobs/recordInfo":      `"state":"success","resultJson":"{\"resultUrls\":[\"https://v\"],\"callBackUrl\":\"` + url + `\",\"param\":\"\"}"`,
		"lyrics":               `"status":"SUCCESS","response":{"data":[{"text":"[Verse] ` + url + `"}]},"paramJson":"{\"a\":\"{\\\"callBackUrl\\\":\\\"` + url + `\\\"}\"}"`,
		"gpt4o-image/generate": `"successFlag":1,"response":{"resultUrls":["` + url + `","https://v"]},"request":{"callBackUrl":"` + url + `"}`,
	} {
		v := judge(provider.Kie(), "api/v1/"+api, "t", 200, `{"code":200,"msg":"success","data":{`+data+`}}`)
		if text := string(v.Body) + v.Reason; v.Body == nil || strings.Contains(text, "hooks.example.com") || strings.Contains(text, "param") {
			t.Errorf("%s: %s: %s", api, v.Reason, v.Body)
		}
	}
}

func FuzzJudge(f *testing.F) {
	apis := []string{
		"generate", "lyrics", "vocal-removal/generate", "wav/generate", "mp4/generate", "suno/cover/generate", "midi/generate", "voice/validate", "voice/generate",
		"veo/generate", "veo/get-4k-video", "flux/kontext/generate", "aleph/generate", "modify/generate", "gpt4o-image/generate", "runway/generate", "jobs/createTask",
	}
	f.Add(byte(0), `{"code":200,"data":{"status":"SUCCESS","response":{"sunoData":[{"audioUrl":"https://a"}]}}}`)
	f.Add(byte(2), `{"code":200,"data":{"successFlag":"SUCCESS","callbackUrl":"https://c","response":{"originData":[{"audio_url":"https://c"}]}}}`)
	f.Add(byte(16), `{"code":200,"data":{"state":"success","param":"{\"callBackUrl\":\"https://c\"}","resultJson":"{\"resultUrls\":[\"https://a\"]}"}}`)
	f.Add(byte(9), `{"code":200,"data":{"successFlag":1,"response":`+strings.Repeat("[", 61)+strings.Repeat("]", 61)+`}}`)
	f.Fuzz(func(t *testing.T, api byte, body string) {
		for _, p := range readers {
			v := judge(p, "api/v1/"+apis[int(api)%len(apis)], "t", 200, body)
			if v.Reason == "" || len(v.Reason) > 300 {
				t.Errorf("reason %q", v.Reason)
			}
			if v.Body == nil {
				continue
			}
			got, err := p.Read(v.Body, nil, relay.ReadOptions{})
			if err != nil || got.ID != "t" {
				t.Errorf("%v, %+v of %s", err, got, v.Body)
			}
		}
	})
}
