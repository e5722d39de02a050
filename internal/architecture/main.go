// Command architecture draws how the packages of this module depend on each other, as a Mermaid graph between two markers
// in docs/architecture.md. It fails if an import leads from a lower layer to a higher one, if the engine imports what a
// configuration chooses, or if a package belongs to no layer. Circles between packages are refused by Go itself.
//
// Run it in the root of the repository, as `make architecture` does. Its test fails if the picture is out of date.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	module   = "github.com/callbackrelay/caddy-relay"
	document = "docs/architecture.md"
	begin    = "<!-- drawn by make architecture -->\n"
	end      = "<!-- end -->\n"
)

// layer is a set of packages that may import those of the layers below it, and each other.
type layer struct {
	name     string
	packages []string // below the module; a trailing /... stands for all below
	chosen   bool     // by a configuration: only the Caddy module may import it from above
}

const glue = "Caddy module"

// layers are the highest first.
var layers = []layer{
	{name: "commands", packages: []string{"caddymodule/caddy"}},
	{name: glue, packages: []string{"caddymodule", "caddymodule/..."}},
	{name: "wire types", packages: []string{"caddymodule/api"}},
	{name: "engine", packages: []string{"relay/engine"}},
	{name: "intake and expect", packages: []string{"relay/engine/intake", "relay/engine/expect"}},
	{name: "delivery", packages: []string{"relay/engine/lane", "relay/engine/spooling", "relay/engine/sweep"}},
	{name: "machinery", packages: []string{"relay/engine/alert", "relay/engine/commit", "relay/engine/courier", "relay/engine/meter", "relay/engine/report", "relay/engine/stream"}},
	{name: "stores", packages: []string{"relay/sqlitestore", "relay/redisstore", "relay/spool", "relay/archive", "relay/internal/sqlitefile"}, chosen: true},
	{name: "readers", packages: []string{"relay/provider", "relay/verifier", "relay/signer", "relay/filter"}, chosen: true},
	{name: "contracts", packages: []string{"relay"}},
	{name: "ground", packages: []string{"relay/payload", "relay/internal/..."}},
}

// leftOut are helpers of tests, and what sees the gateway from outside. So are packages that stand neither below relay nor
// below caddymodule, and those that are nothing but tests.
var leftOut = []string{"caddymodule/bench", "caddymodule/chaos", "caddymodule/chaos/run", "caddymodule/internal/servers", "caddymodule/fakeprovider", "caddymodule/fakeprovider/run", "relay/internal/redistest", "relay/internal/storetest"}

// imports are the packages of the module and what each imports of the module, both without the module's path.
type imports map[string][]string

func main() {
	if err := draw(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func draw() error {
	im, err := list(".")
	if err != nil {
		return err
	}
	picture, err := im.picture()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	text, err := replace(string(old), picture)
	if err != nil || text == string(old) {
		return err
	}
	return os.WriteFile(document, []byte(text), 0o600) // which changes nothing of a file that exists
}

// list asks the go command for the packages below dir.
func list(dir string) (imports, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports", "./relay/...", "./caddymodule/...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	im := imports{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath       string
			GoFiles, Imports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return im, nil
		} else if err != nil {
			return nil, err
		}
		from := within(p.ImportPath)
		if len(p.GoFiles) == 0 || slices.Contains(leftOut, from) {
			continue
		}
		im[from] = nil
		for _, to := range p.Imports {
			if strings.HasPrefix(to, module) {
				im[from] = append(im[from], within(to))
			}
		}
	}
}

func within(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// depth returns the index of a package's layer, or -1.
func depth(pkg string) int {
	for i, l := range layers {
		if slices.Contains(l.packages, pkg) {
			return i
		}
	}
	return slices.IndexFunc(layers, func(l layer) bool {
		return slices.ContainsFunc(l.packages, func(pattern string) bool {
			below, ok := strings.CutSuffix(pattern, "...")
			return ok && strings.HasPrefix(pkg, below)
		})
	})
}

// picture returns the Mermaid graph, or an error that names every import that must not be. Imports of the ground and of
// contracts, which nearly all packages have, are left out of it.
func (im imports) picture() (string, error) {
	var errs []error
	var nodes, arrows strings.Builder
	contracts := depth("relay")
	for i, l := range layers {
		var members []string
		for pkg := range im {
			switch depth(pkg) {
			case i:
				members = append(members, pkg)
			case -1:
				if i == 0 {
					errs = append(errs, fmt.Errorf("%s is in no layer; add it to one in internal/architecture", pkg))
				}
			}
		}
		slices.Sort(members)
		if len(members) == 0 {
			continue
		}
		fmt.Fprintf(&nodes, "    subgraph %s[\"%s\"]\n", id(l.name), l.name)
		for _, pkg := range members {
			fmt.Fprintf(&nodes, "        %s[\"%s\"]\n", id(pkg), pkg)
			for _, to := range slices.Sorted(slices.Values(im[pkg])) {
				switch d := depth(to); {
				case d >= 0 && d < i:
					errs = append(errs, fmt.Errorf("%s imports %s, which is in the higher layer %q", pkg, to, layers[d].name))
				case d > i && layers[d].chosen && l.name != glue:
					errs = append(errs, fmt.Errorf("%s imports %s; only the Caddy module chooses from the layer %q", pkg, to, layers[d].name))
				case d < contracts || i >= contracts:
					fmt.Fprintf(&arrows, "    %s --> %s\n", id(pkg), id(to))
				}
			}
		}
		nodes.WriteString("    end\n")
	}
	return "```mermaid\nflowchart TD\n" + nodes.String() + arrows.String() + "```\n", errors.Join(errs...)
}

// id returns a name as Mermaid allows it.
func id(name string) string { return strings.NewReplacer("/", "_", " ", "_").Replace(name) + "_" }

// replace puts the picture between the markers.
func replace(text, picture string) (string, error) {
	head, rest, ok := strings.Cut(text, begin)
	_, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return "", fmt.Errorf("%s: expected the lines %q and %q", document, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return head + begin + picture + end + tail, nil
}
