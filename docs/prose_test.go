// Package docs holds what people read, and checks how it is written, everywhere in the repository.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// commentOpening matches doc comments that begin with a name and one of the verbs that no Go documentation uses so.
	commentOpening = regexp.MustCompile(`^(?:\S+(?:, \S+)*(?: and \S+)? )??(?i:(gives?|says?|tells?|takes?|stands?|makes? of|is what|are what|what is|what are))\b`)
	// paragraphOpening matches paragraphs and list items that begin so.
	paragraphOpening = regexp.MustCompile(`^(?i:(gives|says that|tells|makes of|what is|what are))\b`)
	// wording matches what has one word for it.
	wording = regexp.MustCompile(`(?i)\b(is not well|are not well|what [a-z]+ makes of|gave <nil>)\b`)
)

// TestProse fails for each place whose wording readers have stumbled over, with the file and the line.
func TestProse(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && (strings.HasPrefix(name, ".") && name != ".github" || name == "node_modules" || name == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go"):
			return checkGo(t, path)
		case strings.HasSuffix(name, ".md"):
			return checkMarkdown(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkGo(t *testing.T, path string) error {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	at := func(pos token.Pos) string {
		return fmt.Sprintf("%s:%d", strings.TrimPrefix(path, "../"), files.Position(pos).Line)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		name, docs := docsOf(n)
		for _, doc := range docs {
			// A name may be such a verb itself.
			text := doc.Text()
			if rest, ok := strings.CutPrefix(text, name+" "); ok && name != "" {
				text = "It " + rest
			}
			if match := commentOpening.FindStringSubmatch(text); match != nil {
				t.Errorf("%s: a comment opens with %q: use an ordinary verb, such as returns, reports whether, sets, starts", at(doc.Pos()), match[1])
			}
		}
		return true
	})
	for _, comment := range file.Comments {
		for _, line := range comment.List {
			if match := wording.FindString(line.Text); match != "" {
				t.Errorf("%s: %q: say it in ordinary words, such as unhealthy", at(line.Pos()), match)
			}
		}
	}
	return nil
}

// docsOf returns the comments that document a declaration, a field or a package, and the first name that is declared
// there, if any.
func docsOf(n ast.Node) (name string, docs []*ast.CommentGroup) {
	switch n := n.(type) {
	case *ast.File:
		docs = append(docs, n.Doc)
	case *ast.FuncDecl:
		name, docs = n.Name.Name, append(docs, n.Doc)
	case *ast.GenDecl:
		if len(n.Specs) > 0 {
			name, _ = docsOf(n.Specs[0])
		}
		docs = append(docs, n.Doc)
	case *ast.TypeSpec:
		name, docs = n.Name.Name, append(docs, n.Doc, n.Comment)
	case *ast.ValueSpec:
		name, docs = n.Names[0].Name, append(docs, n.Doc, n.Comment)
	case *ast.Field:
		if len(n.Names) > 0 {
			name = n.Names[0].Name
		}
		docs = append(docs, n.Doc, n.Comment)
	}
	return name, docs
}

var bullet = regexp.MustCompile(`^\s*(?:[*-]|\d+\.) (?:\*\*)?`)

func checkMarkdown(t *testing.T, path string) error {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	code, before := false, ""
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		opens := bullet.MatchString(line) || before == "" && !strings.HasPrefix(line, "#")
		before = line
		if code {
			continue
		}
		at := fmt.Sprintf("%s:%d", strings.TrimPrefix(path, "../"), i+1)
		if match := paragraphOpening.FindString(bullet.ReplaceAllString(line, "")); match != "" && opens {
			t.Errorf("%s: opens with %q", at, match)
		}
		if match := wording.FindString(line); match != "" {
			t.Errorf("%s: %q: say it in ordinary words, such as unhealthy", at, match)
		}
	}
	return nil
}

// TestOpenings checks the patterns themselves.
func TestOpenings(t *testing.T) {
	for comment, banned := range map[string]bool{
		"metric gives the value of a series.":      true,
		"Lease and Settle take many at a time.":    true,
		"answer is what a sender gets.":            true,
		"String says that it is over.":             true,
		"Gives the name.":                          true,
		"What is known of a node.":                 true,
		"verify reports whether it is signed.":     false,
		"TestStart takes a while, since it waits.": true,
		"keep writes what a callback says.":        false,
		"The store's clock decides.":               false,
		"Standalone Redis answers alone.":          false,
		"Event is an accepted callback; it takes":  false,
	} {
		if got := commentOpening.MatchString(comment); got != banned {
			t.Errorf("%q: banned %v", comment, got)
		}
	}
}
