package provider_test

import (
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// TestSample has every provider read its own sample.
func TestSample(t *testing.T) {
	custom := func(p provider.Paths) relay.Provider {
		c, err := provider.Custom(p)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	paths := provider.Paths{TaskID: []string{`job.0.i\.d`, "id"}, Code: []string{"job.1"}, Files: []string{"output.#.file.url"}}
	for name, tc := range map[string]struct {
		p     relay.Provider
		opts  relay.ReadOptions
		code  string
		files int
	}{
		"suno":          {provider.Suno(), relay.ReadOptions{}, "200", 2},
		"kie, any body": {provider.Kie(), relay.ReadOptions{Format: payload.Any}, "200", 2},
		"custom":        {custom(paths), relay.ReadOptions{Paths: []string{"meta.run", "seq"}}, "200", 1},
		"header":        {custom(provider.Paths{TaskID: []string{"header:X-Task"}}), relay.ReadOptions{}, "", 0},
		"form":          {custom(provider.Paths{TaskID: []string{"id"}, Code: []string{"status"}}), relay.ReadOptions{Format: payload.Form, Paths: []string{"seq"}}, "200", 0},
	} {
		for withFiles, files := range map[bool]int{true: tc.files, false: 0} {
			body, header := tc.p.Sample("sample-1", withFiles, tc.opts)
			r, err := tc.p.Read(body, header, tc.opts)
			if err != nil || r.ID != "sample-1" || r.Code != tc.code || len(r.Files) != files || header.Get("Content-Type") == "" {
				t.Errorf("%s: %+v, %v, from %s", name, r, err, body)
			}
		}
	}
}

// TestSampleAsSent has the family's sample in the form that its senders use: the code is a number.
func TestSampleAsSent(t *testing.T) {
	body, _ := provider.Suno().Sample("t", true, relay.ReadOptions{})
	const want = `{"code":200,"data":{"task_id":"t","vocal_removal_info":{"instrumental_url":"https://files.example.com/sample-2.mp3",` +
		`"vocal_url":"https://files.example.com/sample-1.mp3"}},"msg":"success"}`
	if string(body) != want {
		t.Errorf("%s", body)
	}
}
