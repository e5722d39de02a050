package provider

import (
	"bytes"
	"slices"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// results are the fields of a callback's data that have the results, by API. The family spells its fields in snake_case
// and in camelCase, now one way, now the other; both are read. A file's key ends in url, Url, urls or Urls (namesURLs),
// unless it is an array of strings. Streams are no files.
var results = []struct {
	api    string
	fields []string
}{
	{"music: generate, extend, upload-*, add-*, mashup, replace-section, sounds", []string{"data"}},
	{"vocal separation", []string{"vocal_removal_info", "vocal_separation_info"}},
	{"WAV", []string{"audio_wav_url"}},
	{"music video", []string{"video_url"}},
	{"cover images", []string{"images"}},
	{"MIDI, lyrics, voice", nil},
	{"Veo, Veo 4K, 4o image, Flux Kontext", []string{"info"}},
	{"Veo 4K by its OpenAPI", []string{"result_urls", "image_urls"}},
	{"Runway", []string{"video_url", "image_url"}},
	{"Aleph", []string{"result_video_url", "result_image_url"}},
	{"Luma", []string{"result_urls"}},
	{"market models", []string{resultJSON}},
}

// resultJSON is a string that holds JSON. Every URL in it is a file, whatever its key.
const resultJSON = "result_json"

// notFiles are the keys of what is no result: where the callback goes, and what repeats the request. They are written as
// fold has them.
var notFiles = []string{"callbackurl", "calbackurl", "param", "promptjson", "generateparam", "input"}

// Suno reads the callbacks of sunoapi.org and the whole family that it belongs to.
func Suno() relay.Provider { return newFamily(false) }

// Kie reads the callbacks of kie.ai and the whole family that it belongs to. It verifies nothing: that is what the
// verifier of the same name does.
func Kie() relay.Provider { return newFamily(true) }

// family reads callbacks and details. It implements relay.DetailsPoster, too.
type family struct {
	*parser
	kie bool // how a callback is written that is made of details
}

// familySample is a vocal separation that is done, without the URLs of its files.
const familySample = `{"code":200,"msg":"success","data":{"task_id":"","vocal_removal_info":{"vocal_url":"","instrumental_url":""}}}`

func newFamily(kie bool) *family {
	p := &parser{
		taskID: []string{"data.task_id", "data.taskId", "task_id", "taskId"},
		stage:  []string{"data.callbackType", "data.state", "data.status"},
		code:   []string{"code"},

		sample:      familySample,
		sampleFiles: []string{"data.vocal_removal_info.vocal_url", "data.vocal_removal_info.instrumental_url"},
	}
	for _, api := range results {
		for _, field := range api.fields {
			for _, name := range []string{field, camelCase(field)} {
				f := payload.Files{Path: "data." + name, Take: familyKey([]byte(name)), Keys: familyKey}
				if field == resultJSON {
					f.Take, f.Keys = payload.List|payload.Below, resultKey // the string itself is none
					p.texts = append(p.texts, f.Path)
				}
				p.files = append(p.files, f)
			}
		}
	}
	return &family{p, kie}
}

// familyKey returns what counts below a result field.
func familyKey(key []byte) payload.Take {
	var room [32]byte
	folded := fold(room[:0], key)
	switch {
	case slices.ContainsFunc(notFiles, func(s string) bool { return s == string(folded) }):
		return 0
	case bytes.Contains(folded, []byte("stream")): // there only until the file is
		return payload.Note
	case namesURLs(key):
		return payload.URL | payload.List | payload.Below
	}
	return payload.List | payload.Below
}

// resultKey returns what counts inside resultJson.
func resultKey(key []byte) payload.Take {
	take := familyKey(key)
	if take == payload.List|payload.Below {
		take |= payload.Word
	}
	return take
}

// fold appends the key in lower case and without underscores, so that all spellings are the same.
func fold(to, key []byte) []byte {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != '_' {
			to = append(to, c)
		}
	}
	return to
}

// camelCase returns a name in snake_case as the family spells it the other way.
func camelCase(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}
