package redisstore

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// texts that JSON writes other than they are.
var odd = []string{"", "complete", `a "quoted" \ one`, "<&>", "line\nbreak", "日本 \u2028", "broken \xff"}

// Records written by hand are those that encoding/json writes: an upgrade finds such in Redis.
func TestRecordsAreJSON(t *testing.T) {
	for _, text := range odd {
		e := &relay.Event{Stage: text, Code: text, Origin: relay.OriginRecovered, ReceivedAt: time.UnixMicro(1_764_300_000_123_456)}
		e.Key[0], e.Fingerprint[31] = 0xff, 0xfe
		want, err := json.Marshal(meta{e.Stage, e.Code, e.Key[:], e.Fingerprint[:], e.Origin, e.ReceivedAt.UnixMicro(), ""})
		if got := appendMeta(nil, e, ""); err != nil || string(got) != string(want) {
			t.Errorf("an event is\n%s, want\n%s (%v)", got, want, err)
		}
		for _, a := range []relay.Attempt{
			{At: time.UnixMicro(5), Error: text},
			{At: time.UnixMicro(1_764_300_000_123_456), Duration: 1234567 * time.Nanosecond, Status: 503, Error: text, Response: []byte(text + "\x00")},
		} {
			want, err := json.Marshal(attempt{a.At.UnixMicro(), a.Duration.Microseconds(), a.Status, a.Error, a.Response})
			got := appendAttempt(nil, &a)
			if err != nil || string(got) != string(want) {
				t.Errorf("an attempt is\n%s, want\n%s (%v)", got, want, err)
			}
			if back, err := decodeAttempt(string(got)); err != nil || !reflect.DeepEqual(back.Response, a.Response) || back.Status != a.Status {
				t.Errorf("%s is read as %+v, %v", got, back, err)
			}
		}
	}
	if appendAttempt(nil, nil) != nil {
		t.Error("no attempt is one")
	}
}
