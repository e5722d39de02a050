package provider_test

import (
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func ExampleSuno() {
	r, err := provider.Suno().Read([]byte(`{
		"code": 200,
		"msg": "vocal Removal generated successfully.",
		"data": {
			"task_id": "5e72d367bdfbe44785e28d72cb1697c7",
			"vocal_removal_info": {"origin_url": "", "vocal_url": "https://file.aiquickdraw.com/v.mp3"}
		}
	}`), nil, relay.ReadOptions{})
	fmt.Println(r.ID, r.Code, r.Files, err)
	// Output: 5e72d367bdfbe44785e28d72cb1697c7 200 [https://file.aiquickdraw.com/v.mp3] <nil>
}

func ExampleCustom() {
	p, err := provider.Custom(provider.Paths{
		TaskID: []string{"job.id"},
		Code:   []string{"status"},
		Files:  []string{"outputs.#.href"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := p.Read([]byte(`{"job":{"id":81},"status":"done","outputs":[{"href":"https://a"},{"href":"https://b"}]}`), nil, relay.ReadOptions{})
	fmt.Println(r.ID, r.Code, r.Files, err)
	// Output: 81 done [https://a https://b] <nil>
}
