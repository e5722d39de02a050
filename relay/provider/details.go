package provider

import (
	"net/url"
	"slices"
	"strings"
)

// api is a part of the family whose tasks are asked for at one endpoint.
type api struct {
	submits []string // below /api/v1/; what ends with a slash is the beginning of several
	details string   // below /api/v1/, too
	state   []string // fields of data of which the first that is there decides
	numbers string   // the digits at their place are what a numeric state means: p pending, s success, f failed
	success string   // a text that means success, beside SUCCESS
	// whole reports whether the result is all there. It is asked where the state leaves that open; nil: it
	// is if it names a file.
	whole func(*answer) bool
	form  func(*answer) callback
}

// The meaning of numeric states. Nothing else tells the 2 of the cover images, which are being made, from that of the
// others, which have failed.
const (
	usualNumbers = "psff"
	coverNumbers = "pspf"
	lumaNumbers  = "psffs" // 4: there is a result, and the provider's own callback has failed
)

// apis are the details endpoints of the family.
var apis = []api{
	{
		submits: []string{"generate", "generate/", "mashup", "replace-section", "sounds"}, details: "generate/record-info",
		state: []string{"status", "successFlag"}, whole: everyTrackHasAudio, form: musicForm,
	},
	{submits: []string{"lyrics", "lyrics/generate"}, details: "lyrics/record-info", state: []string{"status", "successFlag"}, whole: hasLyrics, form: lyricsForm},
	{submits: []string{"vocal-removal/generate"}, details: "vocal-removal/record-info", state: []string{"successFlag", "status"}, form: vocalForm},
	{submits: []string{"wav/generate"}, details: "wav/record-info", state: []string{"successFlag", "status"}, form: wavForm},
	{submits: []string{"mp4/generate"}, details: "mp4/record-info", state: []string{"successFlag", "status"}, form: videoForm},
	{submits: []string{"suno/cover/generate"}, details: "suno/cover/record-info", state: []string{"successFlag"}, numbers: coverNumbers, form: coverForm},
	{submits: []string{"midi/generate"}, details: "midi/record-info", state: []string{"successFlag"}, form: midiForm},
	{
		submits: []string{"voice/validate", "voice/regenerate"}, details: "voice/validate-info",
		state: []string{"status"}, success: "WAIT_VALIDATING", form: phraseForm,
	},
	{submits: []string{"voice/generate"}, details: "voice/record-info", state: []string{"status"}, form: voiceForm},
	{submits: []string{"veo/generate", "veo/extend"}, details: "veo/record-info", state: []string{"successFlag"}, form: veoForm},
	{submits: []string{veo4K}, details: veo4K, form: veo4KForm},
	{submits: []string{"flux/kontext/generate"}, details: "flux/kontext/record-info", state: []string{"successFlag"}, form: fluxForm},
	{submits: []string{"aleph/generate"}, details: "aleph/record-info", state: []string{"successFlag"}, form: alephForm},
	{submits: []string{"modify/generate"}, details: "modify/record-info", state: []string{"successFlag"}, numbers: lumaNumbers, form: lumaForm},
	{submits: []string{"gpt4o-image/generate"}, details: "gpt4o-image/record-info", state: []string{"successFlag", "status"}, form: imageForm},
	{submits: []string{"runway/generate", "runway/extend"}, details: "runway/record-detail", state: []string{"state"}, form: runwayForm},
	{submits: []string{"jobs/createTask"}, details: "jobs/recordInfo", state: []string{"state"}, form: marketForm},
}

// veo4K has no details: the request itself is repeated, and has no state but its result.
const veo4K = "veo/get-4k-video"

// root begins the paths of all APIs, for both providers.
const root = "api/v1/"

// findAPI returns the API of a path, which is that of a submission or of a details endpoint, and what stands before the
// API's name in it.
func findAPI(path string) (a *api, before string) {
	path, _, _ = strings.Cut(path, "?")
	name := strings.Trim(path, "/")
	if i := strings.Index(name, root); i == 0 || i > 0 && name[i-1] == '/' {
		before, name = name[:i+len(root)], name[i+len(root):]
	}
	// The details first, since one of them begins like a submission of music.
	i := slices.IndexFunc(apis, func(a api) bool { return a.details == name })
	if i < 0 {
		i = slices.IndexFunc(apis, func(a api) bool {
			return slices.ContainsFunc(a.submits, func(s string) bool { return matches(name, s) })
		})
	}
	if i < 0 {
		return nil, ""
	}
	return &apis[i], before
}

func matches(name, submit string) bool {
	return name == submit || strings.HasSuffix(submit, "/") && strings.HasPrefix(name, submit)
}

// DetailsBody implements relay.DetailsPoster.
func (f *family) DetailsBody(path, taskID string) []byte {
	if a, _ := findAPI(path); a == nil || a.details != veo4K {
		return nil
	}
	body, _ := marshal(map[string]string{"taskId": taskID}) // a text always marshals
	return body
}

// DetailsPath implements relay.DetailsReader.
func (f *family) DetailsPath(path, taskID string) (string, bool) {
	a, before := findAPI(path)
	if a == nil {
		return "", false
	}
	return before + a.details + "?taskId=" + url.QueryEscape(taskID), true
}
