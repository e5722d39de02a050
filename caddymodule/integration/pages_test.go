package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinksOfPages follows the links from the documentation to files of this repository.
func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), found[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// pages returns the paths of the documentation.
func pages(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "docs/*.md", ".github/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	return paths
}

var caddyfileBlock = regexp.MustCompile("(?ms)^( *)```caddyfile\n(.*?)^ *```$")

// shownCaddyfiles returns the Caddyfiles that a page shows, completed where it shows a part.
func shownCaddyfiles(page string) (whole []string) {
	const destination = "to https://billing.example.com/hooks"
	for _, found := range caddyfileBlock.FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll("\n"+found[2], "\n"+found[1], "\n")[1:]
		part, _, _ := strings.Cut(text, " ")
		switch part {
		case "when":
			text = destination + " {\n" + text + "}\n"
			fallthrough
		case "to":
			text = "relay vocals {\n" + text + "}\n"
			fallthrough
		case "relay", "log":
			text = "hooks.example.com {\n" + strings.Replace(text, "[<matcher>] <source>", "/callbacks/vocals vocals", 1) + "respond 404\n}\n"
		}
		whole = append(whole, text)
	}
	return whole
}
