package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinksOfPages follows the links from the documentation to files of this repository, and to the headings in them.
func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(page), found[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if found[2] != "" && !anchors(read(t, target))[found[2]] {
				t.Errorf("%s: %s has no heading #%s", page, target, found[2])
			}
		}
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$") // its comments look like headings
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\w\- ]`)
)

// anchors returns the names by which links lead to the headings of a page.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		kept := dropped.ReplaceAllString(strings.ToLower(found[1]), "")
		names[strings.ReplaceAll(kept, " ", "-")] = true
	}
	return names
}

// TestQuotedMessages holds that each log line that a page names is one that the code writes.
func TestQuotedMessages(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, folder := range []string{"../../relay", "../../caddymodule"} {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				code.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	quoted := regexp.MustCompile("(?:ERROR|WARN|INFO)[*]*(?: line)?\\s[(]?`([^`]+)`")
	count := 0
	for _, page := range pages(t) {
		for _, found := range quoted.FindAllStringSubmatch(read(t, page), -1) {
			count++
			if !strings.Contains(code.String(), strings.TrimSuffix(found[1], " …")) {
				t.Errorf("%s: no code logs %q", page, found[1])
			}
		}
	}
	if count < 10 {
		t.Errorf("found only %d messages", count)
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
