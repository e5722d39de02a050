package fakeprovider

import (
	"encoding/json"
	"strconv"
	"strings"
)

// api is a part of the provider whose tasks are asked for at one endpoint. The JSON in it has placeholders, which fill
// replaces.
type api struct {
	submits []string // below /api/v1/
	details string   // likewise
	same    bool     // a submission names a task, and goes on with it
	files   []string // names
	// The states of a task. Each running one lasts equally long.
	running  []string
	success  string
	failed   string
	excepted string   // the callback failed for good; empty: the provider has no state for it
	stages   []string // there is a callback at the end of each running state; nil: one, at the last, without a stage

	results  string // as callbacks have them
	found    string // as details have them
	callback string // the whole body
	detail   string // the details' data
}

// The endpoints that behave like no other.
const (
	again4K = "veo/get-4k-video" // has no details: the request is repeated
	market  = "jobs/recordInfo"  // has an error for unknown tasks
)

// response is most details' data, of which the state has the name that is appended.
const response = `{"taskId":$id,"callbackUrl":$callback,"response":$found,"errorCode":$error,"errorMessage":null,`

var apis = []api{
	{
		submits: []string{
			"generate", "generate/extend", "generate/upload-cover", "generate/upload-extend", "generate/add-vocals",
			"generate/add-instrumental", "generate/mashup", "generate/replace-section", "generate/sounds",
		},
		details: "generate/record-info", files: []string{"1.mp3", "1.jpeg", "2.mp3", "2.jpeg"},
		running: []string{`"PENDING"`, `"TEXT_SUCCESS"`, `"FIRST_SUCCESS"`}, success: `"SUCCESS"`, failed: `"GENERATE_AUDIO_FAILED"`,
		excepted: `"CALLBACK_EXCEPTION"`, stages: []string{"text", "first", "complete"},
		results: `[{"id":"1","audio_url":$1,"stream_audio_url":"https://stream.example.com/1","image_url":$2,"title":"Rain","duration":198.44},` +
			`{"id":"2","audio_url":$3,"stream_audio_url":"https://stream.example.com/2","image_url":$4,"title":"Rain","duration":201.2}]`,
		found: `[{"id":"1","audioUrl":$1,"streamAudioUrl":"https://stream.example.com/1","imageUrl":$2,"title":"Rain","duration":198.44},` +
			`{"id":"2","audioUrl":$3,"streamAudioUrl":"https://stream.example.com/2","imageUrl":$4,"title":"Rain","duration":201.2}]`,
		callback: `{"code":$code,"msg":$msg,"data":{"callbackType":$stage,"task_id":$id,"data":$results}}`,
		detail: `{"taskId":$id,"param":$param,"response":{"taskId":$id,"sunoData":$found},"status":$state,"type":"GENERATE",` +
			`"errorCode":$error,"errorMessage":null}`,
	},
	{
		submits: []string{"lyrics"}, details: "lyrics/record-info",
		running: []string{`"PENDING"`}, success: `"SUCCESS"`, failed: `"GENERATE_LYRICS_FAILED"`, excepted: `"CALLBACK_EXCEPTION"`,
		stages:   []string{"complete"},
		results:  `[{"text":"[Verse]\nrain","title":"Rain","status":"complete","errorMessage":""}]`,
		found:    `[{"text":"[Verse]\nrain","title":"Rain","status":"complete","errorMessage":""}]`,
		callback: `{"code":$code,"msg":$msg,"data":{"callbackType":$stage,"taskId":$id,"data":$results}}`,
		detail:   `{"taskId":$id,"param":$param,"response":{"taskId":$id,"data":$found},"status":$state,"type":"LYRICS","errorCode":$error}`,
	},
	{
		submits: []string{"vocal-removal/generate"}, details: "vocal-removal/record-info", files: []string{"vocals.mp3", "instrumental.mp3"},
		running: []string{`"PENDING"`}, success: `"SUCCESS"`, failed: `"GENERATE_AUDIO_FAILED"`, excepted: `"CALLBACK_EXCEPTION"`,
		results:  `{"origin_url":"","vocal_url":$1,"instrumental_url":$2}`,
		found:    `{"id":null,"originUrl":null,"originData":null,"vocalUrl":$1,"instrumentalUrl":$2,"drumsUrl":null}`,
		callback: `{"code":$code,"msg":$msg,"data":{"task_id":$id,"vocal_removal_info":$results}}`,
		detail:   response + `"successFlag":$state}`,
	},
	{
		submits: []string{"wav/generate"}, details: "wav/record-info", files: []string{"audio.wav"},
		running: []string{`"PENDING"`}, success: `"SUCCESS"`, failed: `"GENERATE_WAV_FAILED"`, excepted: `"CALLBACK_EXCEPTION"`,
		found:    `{"audioWavUrl":$1}`,
		callback: `{"code":$code,"msg":$msg,"data":{"audioWavUrl":$1,"task_id":$id}}`,
		detail:   response + `"successFlag":$state}`,
	},
	{
		submits: []string{"mp4/generate"}, details: "mp4/record-info", files: []string{"video.mp4"},
		running: []string{`"PENDING"`}, success: `"SUCCESS"`, failed: `"GENERATE_MP4_FAILED"`, excepted: `"CALLBACK_EXCEPTION"`,
		found:    `{"videoUrl":$1}`,
		callback: `{"code":$code,"msg":$msg,"data":{"task_id":$id,"video_url":$1}}`,
		detail:   response + `"successFlag":$state}`,
	},
	{
		submits: []string{"suno/cover/generate"}, details: "suno/cover/record-info", files: []string{"1.png", "2.png"},
		running: []string{`0`, `2`}, success: `1`, failed: `3`,
		results: `[$1,$2]`, found: `{"images":[$1,$2]}`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"images":$results}}`,
		detail:   response + `"successFlag":$state}`,
	},
	{
		submits: []string{"midi/generate"}, details: "midi/record-info",
		running: []string{`0`}, success: `1`, failed: `2`,
		results:  `{"state":"complete","instruments":[{"name":"Drums","notes":[{"pitch":60,"start":"0.0","end":0.1,"velocity":1}]}]}`,
		found:    `{"state":"complete","instruments":[{"name":"Drums","notes":[{"pitch":60,"start":"0.0","end":0.1,"velocity":1}]}]}`,
		callback: `{"task_id":$id,"code":$code,"msg":$msg,"data":$results}`,
		detail:   `{"taskId":$id,"recordTaskId":-1,"callbackUrl":$callback,"midiData":$found,"successFlag":$state,"errorCode":$error}`,
	},
	{
		submits: []string{"voice/validate", "voice/regenerate"}, details: "voice/validate-info",
		running: []string{`"wait_processing"`, `"processing_validate"`}, success: `"wait_validating"`, failed: `"processing_validate_fail"`,
		results:  `"Harmonies fill the air"`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"validateInfo":$results,"status":$state,"errorCode":$error,"errorMessage":""}}`,
		detail:   `{"taskId":$id,"validateInfo":"Harmonies fill the air","status":$state,"errorCode":$error,"errorMessage":""}`,
	},
	{
		submits: []string{"voice/generate"}, details: "voice/record-info", same: true,
		running: []string{`"wait_validating"`}, success: `"success"`, failed: `"fail"`,
		results:  `"voice_1"`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"voiceId":$results,"status":$state,"errorCode":$error,"errorMessage":""}}`,
		detail:   `{"taskId":$id,"voiceId":"voice_1","status":$state,"errorCode":$error,"errorMessage":""}`,
	},
	{
		submits: []string{"veo/generate", "veo/extend"}, details: "veo/record-info", files: []string{"result.mp4", "origin.mp4"},
		running: []string{`0`}, success: `1`, failed: `3`,
		results:  `{"resultUrls":[$1],"originUrls":[$2],"resolution":"1080p"}`,
		found:    `{"taskId":$id,"resultUrls":[$1],"originUrls":[$2],"resolution":"1080p"}`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"promptJson":$param,"info":$results,"fallbackFlag":false}}`,
		detail:   `{"taskId":$id,"paramJson":$param,"response":$found,"successFlag":$state,"errorCode":$error,"fallbackFlag":false}`,
	},
	{
		submits: []string{again4K}, details: again4K, same: true, files: []string{"result_4k.mp4", "image_4k.jpg"},
		running: []string{``}, results: `{"resultUrls":[$1],"imageUrls":[$2]}`,
		found:    `[$1],"imageUrls":[$2]`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"info":$results}}`,
		detail:   `{"taskId":$id,"resultUrls":$found}`,
	},
	{
		submits: []string{"flux/kontext/generate"}, details: "flux/kontext/record-info", files: []string{"origin.jpg", "result.jpg"},
		running: []string{`0`}, success: `1`, failed: `3`,
		found:    `{"originImageUrl":$1,"resultImageUrl":$2}`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"info":{"originImageUrl":$1,"resultImageUrl":$2}}}`,
		detail:   `{"taskId":$id,"paramJson":$param,"response":$found,"successFlag":$state,"errorCode":$error}`,
	},
	{
		submits: []string{"aleph/generate"}, details: "aleph/record-info", files: []string{"result.mp4", "result.png"},
		running: []string{`0`}, success: `1`, failed: `3`,
		results: `{"result_video_url":$1,"result_image_url":$2}`, found: `{"taskId":$id,"resultVideoUrl":$1,"resultImageUrl":$2}`,
		callback: `{"code":$code,"msg":$msg,"data":$results,"taskId":$id}`,
		detail:   `{"taskId":$id,"paramJson":$param,"response":$found,"successFlag":$state,"errorCode":$error}`,
	},
	{
		submits: []string{"modify/generate"}, details: "modify/record-info", files: []string{"result.mp4"},
		running: []string{`0`}, success: `1`, failed: `3`, excepted: `4`,
		results: `[$1]`, found: `{"resultUrls":[$1]}`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"promptJson":$param,"resultUrls":$results}}`,
		detail:   `{"taskId":$id,"paramJson":$param,"response":$found,"successFlag":$state}`,
	},
	{
		submits: []string{"gpt4o-image/generate"}, details: "gpt4o-image/record-info", files: []string{"result.png"},
		running: []string{`0,"status":"GENERATING"`}, success: `1,"status":"SUCCESS"`, failed: `3,"status":"GENERATE_FAILED"`,
		results: `{"result_urls":[$1]}`, found: `{"resultUrls":[$1]}`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"info":$results}}`,
		detail:   `{"taskId":$id,"paramJson":$param,"response":$found,"errorCode":$error,"successFlag":$state}`,
	},
	{
		submits: []string{"runway/generate", "runway/extend"}, details: "runway/record-detail", files: []string{"video.mp4", "image.png"},
		running: []string{`"wait"`, `"queueing"`, `"generating"`}, success: `"success"`, failed: `"fail"`,
		found:    `{"videoId":"1","taskId":$id,"videoUrl":$1,"imageUrl":$2}`,
		callback: `{"code":$code,"msg":$msg,"data":{"task_id":$id,"video_id":"1","video_url":$1,"image_url":$2}}`,
		detail: `{"taskId":$id,"parentTaskId":"","generateParam":{"imageUrl":"https://files.example.com/in.jpg"},"state":$state,` +
			`"videoInfo":$found,"failCode":$error,"failMsg":"","expireFlag":0}`,
	},
	{
		submits: []string{"jobs/createTask"}, details: market, files: []string{"result.mp4"},
		running: []string{`"waiting"`, `"queuing"`, `"generating"`}, success: `"success"`, failed: `"fail"`,
		results: `"{\"resultUrls\":[$text1]}"`, found: `"{\"resultUrls\":[$text1]}"`,
		callback: `{"code":$code,"msg":$msg,"data":{"taskId":$id,"model":"simulated","param":$param,"state":$state,"resultJson":$results,"failCode":$error}}`,
		detail:   `{"taskId":$id,"model":"simulated","state":$state,"param":$param,"resultJson":$found,"failCode":$error,"failMsg":null}`,
	},
}

// fill returns one of a task's templates with everything in it, at one of its stages.
func (t *task) fill(template string, stage string) []byte {
	a := t.api
	failed := t.fate.Code != 0
	results, found, state := a.results, a.found, a.success
	code, message, fault := "200", "success", "null"
	switch {
	case !t.done():
		results, found, state = a.results, "null", a.running[t.progress]
	case failed:
		results, found, state = "null", "null", a.failed
		code, message, fault = strconv.Itoa(t.fate.Code), "The generation failed", strconv.Itoa(t.fate.Code)
		if stage != "" {
			stage = "error"
		}
	case t.exception && a.excepted != "":
		state = a.excepted
	}
	pairs := []string{
		"$code", code, "$msg", quote(message), "$id", quote(t.id), "$stage", quote(stage), "$state", state, "$error", fault,
		"$callback", quote(t.url), "$param", quote(`{"callBackUrl":` + quote(t.url) + `}`),
	}
	for i, name := range a.files {
		url := quote(t.urls[name])
		switch early := stage == "text" && i%2 == 0 || stage == "first" && i == 2; {
		case failed:
			url = "null"
		case early: // a track that is not there yet
			url = `""`
		}
		place := strconv.Itoa(i + 1)
		pairs = append(pairs, "$"+place, url, "$text"+place, inner(quote(url)))
	}
	template = strings.NewReplacer("$results", results, "$found", found).Replace(template)
	return []byte(strings.NewReplacer(pairs...).Replace(template))
}

// inner returns what is between the quotes of a JSON string.
func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

// quote returns a JSON string.
func quote(s string) string {
	text, _ := json.Marshal(s) // a string always marshals
	return string(text)
}
