package intake_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// midi returns a MIDI callback as it is sent for a whole song: 14,000 notes are 1.2 MB.
func midi() []byte {
	var b bytes.Buffer
	b.WriteString(`{"code":200,"msg":"success","data":{"taskId":"8e283ec6fc83ecc272bd8c000ca38d6a","state":"complete","instruments":[`)
	for i := range 4 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"Instrument %d","notes":[`, i)
		for n := range 3500 {
			if n > 0 {
				b.WriteByte(',')
			}
			at := float64(n) / 7
			fmt.Fprintf(&b, `{"pitch":%d,"start":"%v","end":%v,"velocity":%v}`, 30+n%60, at, at+0.1, float64(n%128)/127)
		}
		b.WriteString(`]}`)
	}
	b.WriteString(`]}}`)
	return b.Bytes()
}

// BenchmarkIdentify compares with the reference, which may not be run by itself: a machine's speed changes from run to run.
func BenchmarkIdentify(b *testing.B) {
	src := &relay.Source{Provider: provider.Suno()}
	reference := newParser(referenceFamily)
	for _, c := range []struct {
		name string
		body []byte
	}{
		{"vocals", fixture(b, "callback-separate-vocal.json")},
		{"music", fixture(b, "callback-music-complete.json")},
		{"midi", midi()},
	} {
		for _, way := range []struct {
			name     string
			identify func() (intake.Identity, error)
		}{
			{"reference", func() (intake.Identity, error) { return referenceIdentify(reference, nil, c.body, nil) }},
			{"one pass", func() (intake.Identity, error) { return intake.Identify(src, c.body, nil) }},
		} {
			b.Run(c.name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(int64(len(c.body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := way.identify(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
