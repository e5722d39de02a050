package command

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
)

// TestForeignTextInJSON: what a terminal might obey is escaped, also where the connection cuts a character in two, and says
// the same to a script.
func TestForeignTextInJSON(t *testing.T) {
	const foreign = "{\"msg\":\"\u009b2J \x7f \u0085 \u202e \u200b \U000e0001 é 😀 \\u001b\"}"
	const escaped = `{"msg":"\u009b2J \u007f \u0085 \u202e \u200b \udb40\udc01 é 😀 \u001b"}`
	var b strings.Builder
	if err := copyJSON(&b, iotest.OneByteReader(strings.NewReader(foreign+"\n"))); err != nil || b.String() != escaped+"\n" {
		t.Errorf("%s, %v", b.String(), err)
	}
	var before, after any
	if json.Unmarshal([]byte(foreign), &before) != nil || json.Unmarshal([]byte(escaped), &after) != nil {
		t.Fatal("no JSON")
	}
	if before.(map[string]any)["msg"] != after.(map[string]any)["msg"] {
		t.Errorf("%q became %q", before, after)
	}
	for _, width := range []int{0, 80} {
		b.Reset()
		if err := (&terminal{out: &b, width: width}).json([]byte(foreign)); err != nil || strings.ContainsAny(b.String(), "\u009b\x7f\u202e") || !strings.Contains(b.String(), `\u009b2J`) {
			t.Errorf("%s, %v", b.String(), err)
		}
	}
	b.Reset()
	if err := copyJSON(&b, strings.NewReader("\"\x9b\xff\"")); err != nil || b.String() != `"\ufffd\ufffd"` {
		t.Errorf("%s, %v", b.String(), err)
	}
}
