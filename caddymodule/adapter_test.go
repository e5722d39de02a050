package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

var update = flag.Bool("update", false, "write what the adapter says into the golden files")

// TestAdapter compares what the Caddyfile adapter makes of the cases in testdata. A case is a Caddyfile, a line of dashes,
// and the JSON or the error; a line of equals signs separates two cases of a file.
func TestAdapter(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		cases := readCases(t, file)
		for i, c := range cases {
			t.Run(filepath.Base(file)+"/"+strconv.Itoa(i+1), func(t *testing.T) {
				got := adaptOrError(c.caddyfile)
				if *update {
					cases[i].expected = got
				} else if got != c.expected {
					t.Errorf("for\n%s\ngot:\n%s\nexpected:\n%s", c.caddyfile, got, c.expected)
				}
				wantsError := strings.HasPrefix(filepath.Base(file), "errors_")
				if isError := !strings.HasPrefix(got, "{"); isError != wantsError {
					t.Errorf("for\n%s\ngot:\n%s", c.caddyfile, got)
				}
			})
		}
		if *update {
			writeCases(t, file, cases)
		}
	}
}

type adapterCase struct{ caddyfile, expected string }

func readCases(t *testing.T, file string) (cases []adapterCase) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.SplitSeq(string(content), "==========\n") {
		caddyfile, expected, ok := strings.Cut(text, "----------\n")
		if !ok {
			t.Fatalf("%s: no line of dashes in\n%s", file, text)
		}
		cases = append(cases, adapterCase{caddyfile, expected})
	}
	return cases
}

func writeCases(t *testing.T, file string, cases []adapterCase) {
	t.Helper()
	texts := make([]string, len(cases))
	for i, c := range cases {
		texts[i] = c.caddyfile + "----------\n" + c.expected
	}
	if err := os.WriteFile(file, []byte(strings.Join(texts, "==========\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

func adaptOrError(caddyfile string) string {
	adapted, err := adapt(caddyfile)
	if err != nil {
		return err.Error() + "\n"
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, adapted, "", "\t"); err != nil {
		return err.Error() + "\n"
	}
	return pretty.String() + "\n"
}

func adapt(caddyfile string) ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return adapted, err
}

// TestNothingLeft has guest modules that read less than all, as Caddy's network_proxy none, which reads nothing at all.
func TestNothingLeft(t *testing.T) {
	for text, c := range map[string]struct {
		read     int
		expected string
	}{
		"none":                   {0, ""},
		"none more":              {0, `unexpected "more": expected none, at Testfile:1`},
		"some more":              {1, `unexpected "more": expected none, at Testfile:1`},
		"none {\n\tmore\n}":      {1, `unexpected "{": expected none, at Testfile:1`},
		"some more {\n\tmore\n}": {5, ""},
		"some {\n\tmore\n}":      {2, `unexpected "more": expected none, at Testfile:2`},
	} {
		d := caddyfile.NewTestDispenser(text)
		for range c.read {
			d.Next()
		}
		var got string
		if err := nothingLeft(d, "none"); err != nil {
			got = err.Error()
		}
		if got != c.expected {
			t.Errorf("%q, of which %d are read: got %q, expected %q", text, c.read, got, c.expected)
		}
	}
}
