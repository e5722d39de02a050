package provider

import (
	"cmp"
	"encoding/json"
)

// callback holds what a provider would have called back with.
type callback struct {
	msg    string // of a success
	code   string // of every failure of the API; empty: the one that the details have
	usual  string // of a failure of which the details have none; default 501
	beside string // the field of the task id, if it is not in data
	data   any
}

// object returns the callback's JSON.
func (c callback) object(a *answer) map[string]any {
	code, msg := "200", c.msg
	if a.failed {
		code, msg = c.failure(a), cmp.Or(a.message(), "generation failed")
	}
	top := map[string]any{"code": json.Number(code), "msg": msg, "data": c.data}
	if c.beside != "" {
		top[c.beside] = a.taskID
	}
	return top
}

func (c callback) failure(a *answer) string {
	switch code := a.errorCode(); {
	case c.code != "":
		return c.code
	case code != "":
		return code
	case a.state == "SENSITIVE_WORD_ERROR":
		return "400"
	case c.usual != "":
		return c.usual
	}
	return "501"
}

// results returns the object of the results: most APIs have it in a field of its own, older ones have none.
func (a *answer) results(names ...string) fields {
	if a.failed {
		return nil
	}
	for _, name := range append(names, "response", "info") {
		if object := a.data.object(name); object != nil {
			return object
		}
	}
	return a.data
}

// pick returns those fields of from, in camelCase.
func pick(from fields, names ...string) map[string]any {
	to := make(map[string]any, len(names)+2)
	for _, name := range names {
		to[name] = from.get(name)
	}
	return to
}

// pickSnake is pick in snake_case.
func pickSnake(from fields, names ...string) map[string]any {
	to := make(map[string]any, len(names)+2)
	for _, name := range names {
		to[snakeCase(name)] = snake(from.get(name))
	}
	return to
}

func musicForm(a *answer) callback {
	data := map[string]any{"task_id": a.taskID, "callbackType": "complete", "data": nil}
	if a.failed {
		data["callbackType"] = "error"
	} else {
		data["data"] = snake(a.tracks())
	}
	return callback{msg: "All generated successfully.", data: data}
}

func (a *answer) tracks() []any {
	results := a.results()
	if tracks := results.list("sunoData"); tracks != nil {
		return tracks
	}
	return results.list("data")
}

// everyTrackHasAudio reports whether no track is still being made.
func everyTrackHasAudio(a *answer) bool {
	tracks := a.tracks()
	for _, t := range tracks {
		track, _ := t.(map[string]any)
		if fields(track).text("audioUrl") == "" {
			return false
		}
	}
	return len(tracks) > 0
}

func lyricsForm(a *answer) callback {
	c := callback{msg: "All generated successfully."}
	data := map[string]any{"callbackType": "complete", "data": nil}
	id, texts := "taskId", any(a.lyrics())
	switch {
	case a.kie: // its failures are complete, too
		id, texts, c.code = "task_id", snake(texts), "400"
	case a.failed:
		data["callbackType"] = "error"
	}
	data[id] = a.taskID
	if !a.failed {
		data["data"] = texts
	}
	c.data = data
	return c
}

func (a *answer) lyrics() []any {
	results := a.results()
	for _, name := range []string{"data", "lyricsData"} {
		if texts := results.list(name); texts != nil {
			return texts
		}
	}
	return a.data.list("response")
}

func hasLyrics(a *answer) bool { return len(a.lyrics()) > 0 }

func vocalForm(a *answer) callback {
	info, msg := "vocal_removal_info", "vocal Removal generated successfully."
	if a.kie {
		info, msg = "vocal_separation_info", "vocal separation generated successfully."
	}
	data := map[string]any{"task_id": a.taskID, info: nil}
	if results := a.results(); results != nil {
		urls := make(map[string]any)
		for name, v := range results {
			if name = snakeCase(name); v != nil && (namesURLs([]byte(name)) || name == "origin_data") {
				urls[name] = snake(v)
			}
		}
		data[info] = urls
	}
	return callback{msg: msg, usual: "500", data: data}
}

func wavForm(a *answer) callback {
	data := pick(a.results(), "audioWavUrl")
	data["task_id"] = a.taskID
	return callback{msg: "success", usual: "500", data: data}
}

func videoForm(a *answer) callback {
	data := pickSnake(a.results(), "videoUrl")
	data["task_id"] = a.taskID
	return callback{msg: "MP4 generated successfully.", usual: "500", data: data}
}

func coverForm(a *answer) callback {
	data := pick(a.results(), "images")
	data["taskId"] = a.taskID
	return callback{msg: "success", data: data}
}

func midiForm(a *answer) callback {
	if a.failed {
		return callback{usual: "500", data: map[string]any{"taskId": a.taskID}}
	}
	data := pick(a.results("midiData"), "state", "instruments")
	if data["state"] == nil {
		data["state"] = "complete"
	}
	if a.kie {
		data["taskId"] = a.taskID
		return callback{msg: "success", data: data}
	}
	return callback{msg: "success", data: data, beside: "task_id"}
}

// phraseForm is of a phrase to be sung. Its task goes on with the voice itself, whose callback is another one, so the
// status of the whole is none of this.
func phraseForm(a *answer) callback {
	data := pick(a.data, "validateInfo")
	return spokenCallback(a, data, "wait_validating")
}

func voiceForm(a *answer) callback {
	return spokenCallback(a, pick(a.data, "voiceId"), "success")
}

func spokenCallback(a *answer, data map[string]any, status string) callback {
	data["taskId"], data["status"] = a.taskID, status
	if a.failed {
		data["status"] = a.data.text("status")
	}
	data["errorCode"], data["errorMessage"] = a.data.get("errorCode"), a.message()
	return callback{msg: "success", code: "400", data: data}
}

func veoForm(a *answer) callback {
	data := map[string]any{"taskId": a.taskID, "fallbackFlag": a.data.get("fallbackFlag") == true}
	if results := a.results(); results != nil {
		data["info"] = pick(results, "resultUrls", "originUrls", "resolution")
	}
	return callback{msg: "Veo3.1 video generated successfully.", data: data}
}

func veo4KForm(a *answer) callback {
	info := pick(a.results(), "resultUrls", "imageUrls")
	return callback{msg: "4K Video generated successfully.", data: map[string]any{"taskId": a.taskID, "info": info}}
}

func fluxForm(a *answer) callback {
	info := pick(a.results(), "originImageUrl", "resultImageUrl")
	for name, v := range info {
		if v == nil {
			info[name] = ""
		}
	}
	return callback{msg: "BFL image generated successfully.", data: map[string]any{"taskId": a.taskID, "info": info}}
}

func alephForm(a *answer) callback {
	c := callback{msg: "success", beside: "taskId"}
	if results := a.results(); results != nil {
		c.data = pickSnake(results, "resultVideoUrl", "resultImageUrl")
	}
	return c
}

func lumaForm(a *answer) callback {
	data := pick(a.results(), "resultUrls")
	data["taskId"] = a.taskID
	return callback{msg: "success", data: data}
}

func imageForm(a *answer) callback {
	data := map[string]any{"taskId": a.taskID, "info": nil}
	if results := a.results(); results != nil {
		data["info"] = pickSnake(results, "resultUrls")
	}
	return callback{msg: "success", data: data}
}

func runwayForm(a *answer) callback {
	data := pickSnake(a.results("videoInfo"), "videoId", "videoUrl", "imageUrl")
	for name, v := range data {
		if v == nil {
			data[name] = ""
		}
	}
	data["task_id"] = a.taskID
	return callback{msg: "All generated successfully.", data: data}
}

// marketForm is nearly the details: those have the callback's own fields, and repeat the request in others.
func marketForm(a *answer) callback {
	data := map[string]any{"taskId": a.taskID, "resultJson": nil}
	for _, name := range []string{
		"model", "state", "resultJson", "failCode", "failMsg", "costTime", "createTime", "updateTime", "completeTime", "creditsConsumed",
	} {
		if v := a.data.get(name); v != nil {
			data[name] = v
		}
	}
	return callback{msg: "Playground task completed successfully.", code: "501", data: data}
}

// snake returns a value with the names of all fields in snake_case. createTime alone the callbacks spell otherwise.
func snake(v any) any {
	switch v := v.(type) {
	case map[string]any:
		to := make(map[string]any, len(v))
		for name, below := range v {
			if name != "createTime" {
				name = snakeCase(name)
			}
			to[name] = snake(below)
		}
		return to
	case []any:
		to := make([]any, len(v))
		for i, below := range v {
			to[i] = snake(below)
		}
		return to
	}
	return v
}
