package main

import (
	"os"
	"strings"
	"testing"
)

// The picture in docs/architecture.md is what the code is, and no import leads up.
func TestDocumentIsUpToDate(t *testing.T) {
	t.Chdir("../..")
	im, err := list(".")
	if err != nil {
		t.Fatal(err)
	}
	picture, err := im.picture()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want, err := replace(string(text), picture)
	if err != nil {
		t.Fatal(err)
	}
	if want != string(text) {
		t.Errorf("%s is out of date; run make architecture", document)
	}
}

func TestPictureRefusesImports(t *testing.T) {
	for name, c := range map[string]struct {
		imports imports
		want    string // in the error; empty: none
	}{
		"down":       {imports{"relay/engine/lane": {"relay/engine/commit", "relay"}}, ""},
		"sideways":   {imports{"relay/engine/sweep": {"relay/engine/lane"}}, ""},
		"up":         {imports{"relay/engine/commit": {"relay/engine/lane"}}, `relay/engine/commit imports relay/engine/lane, which is in the higher layer "delivery"`},
		"a choice":   {imports{"relay/engine": {"relay/sqlitestore"}}, `relay/engine imports relay/sqlitestore; only the Caddy module`},
		"from relay": {imports{"relay": {"relay/sqlitestore"}}, "relay imports relay/sqlitestore"},
		"homeless":   {imports{"relay/util": nil}, "relay/util is in no layer"},
	} {
		t.Run(name, func(t *testing.T) {
			picture, err := c.imports.picture()
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(picture, "```mermaid\nflowchart TD\n") {
					t.Errorf("picture is %s", picture)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestReplaceNeedsItsMarkers(t *testing.T) {
	if _, err := replace("no markers here\n", "picture\n"); err == nil {
		t.Error("a document without markers was taken")
	}
	got, err := replace("a\n"+begin+"old\n"+end+"b\n", "new\n")
	if want := "a\n" + begin + "new\n" + end + "b\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}
