package caddymodule

import (
	"strings"
	"testing"
)

// TestPlaces validates Caddyfiles whose mistakes only provisioning can see: the errors name file and line all the same.
func TestPlaces(t *testing.T) {
	folder := dataDir(t)
	t.Setenv("EMPTY", "")
	const proxies = "\n\t\ttrusted_proxies static private_ranges\n\t}\n"
	const listed = "\trelay vocals {\n\t\tallow 203.0.113.0/24\n\t\tto https://billing.example.com\n\t}\n"
	for name, c := range map[string]struct{ caddyfile, expected string }{
		"proxies of one server":     {"{\n\tservers :8080 {" + proxies + "}\n:8080 {\n" + listed + "}", "expected trusted_proxies_strict beside them, at Caddyfile:7"},
		"proxies of a named server": {"{\n\tservers :8080 {\n\t\tname web" + proxies + "}\n:8080 {\n" + listed + "}", "expected trusted_proxies_strict beside them, at Caddyfile:8"},
		"proxies of the second block": {
			"{\n\tservers :8081 {\n\t\ttrusted_proxies_strict\n\t}\n\tservers {" + proxies + "}\n:8080 {\n" + listed + "}",
			"expected trusted_proxies_strict beside them, at Caddyfile:10",
		},
		"proxies of a named route": {"{\n\tservers :8080 {" + proxies + "}\n&(callbacks) {\n" + listed + "}\n:8080 {\n\tinvoke callbacks\n}", "beside them, at Caddyfile:7"},
		"proxies of one of two sites": {
			"{\n\tservers :8081 {" + proxies + "}\n:8080 {\n" + listed + "}\n:8081 {\n" + strings.ReplaceAll(listed, "billing", "files") + "}",
			"is defined differently at Caddyfile:7; expected the same settings, or another name, at Caddyfile:13",
		},
		"proxies of one of two like sites": {"{\n\tservers :8081 {" + proxies + "}\n:8080 {\n" + listed + "}\n:8081 {\n" + listed + "}", "beside them, at Caddyfile:7 or Caddyfile:13"},
		"proxies behind a snippet":         {"{\n\tservers :8080 {" + proxies + "}\n(callbacks) {\n" + listed + "}\n:8080 {\n\timport callbacks\n}", "beside them, at Caddyfile:7"},
		"a secret":                         {":8080 {\n\trelay vocals {\n\t\tverify kie {env.EMPTY}\n\t\tto https://billing.example.com\n\t}\n}", "EMPTY is not set, or empty, at Caddyfile:2"},
		"the store":                        {"{\n\trelay {\n\t\tstore sqlite {env.EMPTY}\n\t}\n}\n:8080 {\n\trelay vocals {\n\t\tto https://billing.example.com\n\t}\n}", "EMPTY is not set, or empty, at Caddyfile:2"},
		"the store, in two options":        {"{\n\trelay {\n\t\tdrain 1s\n\t}\n\trelay {\n\t\tstore sqlite {env.EMPTY}\n\t}\n}\n:8080 {\n\trelay vocals {\n\t\tto https://billing.example.com\n\t}\n}", "EMPTY is not set, or empty, at Caddyfile:5"},
		"a folder in place of the store":   {"{\n\trelay {\n\t\tstore sqlite " + folder + "\n\t}\n}\n:8080 {\n\trelay vocals {\n\t\tto https://billing.example.com\n\t}\n}", folder + " is a folder; expected a file, which may be in it, at Caddyfile:2"},
		"order among partitions":           {"{\n\trelay {\n\t\tstore redis {\n\t\t\tpartitions 2\n\t\t}\n\t}\n}\n:8080 {\n\trelay vocals {\n\t\tdedupe stage code\n\t\tto https://billing.example.com {\n\t\t\torder task\n\t\t}\n\t}\n}", "order task: expected dedupe to name task_id, since the store parts a source by it, or partitions 1 in the store, at Caddyfile:9"},
		"recovery among partitions":        {"{\n\trelay {\n\t\tstore redis a:1 b:1\n\t}\n}\n:8080 {\n\trelay vocals {\n\t\tdedupe stage code\n\t\tto https://billing.example.com\n\t\trecover\n\t}\n}", "recover: expected dedupe to name task_id, since the store parts a source by it, or partitions 1 in the store, at Caddyfile:7"},
	} {
		t.Run(name, func(t *testing.T) {
			adapted, err := adapt(c.caddyfile)
			if err == nil {
				err = validate(t, string(adapted))
			}
			if err == nil || !strings.HasSuffix(err.Error(), c.expected) {
				t.Errorf("got %v, expected an error that ends with %q", err, c.expected)
			}
		})
	}
}

// TestPlaceBook forgets one Caddyfile when the next is adapted.
func TestPlaceBook(t *testing.T) {
	var b placeBook
	key := []byte("{}")
	b.note(phaseOption, true, key, place{"a", 1})
	b.note(phaseNamedRoutes, true, key, place{"a", 2})
	b.note(phaseNamedRoutes, false, key, place{"a", 2})
	b.note(phaseSites, true, key, place{"a", 3})
	if got := b.find(key); got != "a:1 or a:2 or a:3" {
		t.Errorf("got %q", got)
	}
	b.note(phaseSites, true, key, place{"b", 1})
	if got := b.find(key); got != "b:1" {
		t.Errorf("got %q", got)
	}
	b.note(phaseNamedRoutes, true, []byte("[]"), place{"c", 1})
	if got := b.find(key); got != "" {
		t.Errorf("got %q", got)
	}
	if err := b.locate(key, nil); err != nil {
		t.Error(err)
	}
}
