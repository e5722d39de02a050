package caddymodule

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds what a {file.*} placeholder reads: a secret, not a log by mistake.
const maxFile = 64 << 10

// resolve replaces {env.NAME} and {file./abs/path}, once, while provisioning. Caddy's replacer is not used, since it knows
// placeholders of requests and leaves unknown ones standing, which would send a secret's name instead of the secret.
func resolve(s string) (string, error) {
	return expand(s, func(kind, name string) (string, error) {
		if kind == "env" {
			v := os.Getenv(name)
			if v == "" {
				return "", fmt.Errorf("the environment variable %s is not set, or empty", name)
			}
			return v, nil
		}
		return readSecret(name)
	})
}

// checkPlaceholders returns an error unless resolve can understand s, without reading anything.
func checkPlaceholders(s string) error {
	_, err := findPlaceholder(s)
	return err
}

// hasPlaceholder reports whether s is not literal.
func hasPlaceholder(s string) bool {
	found, err := findPlaceholder(s)
	return found || err != nil
}

// checkWritten returns an error if a text that is used as it is written holds a placeholder that is replaced in others, since
// nothing would ever match it.
func checkWritten(texts ...string) error {
	for _, s := range texts {
		if found, _ := findPlaceholder(s); found { // other braces are just text
			return fmt.Errorf("expected a text that is written here, since placeholders are not replaced in it, got %q", s)
		}
	}
	return nil
}

// findPlaceholder reports whether s holds a placeholder. Its error says what resolve would not understand, and nothing is looked for
// behind that.
func findPlaceholder(s string) (found bool, err error) {
	_, err = expand(s, func(_, _ string) (string, error) {
		found = true
		return "", nil
	})
	return found, err
}

// expand replaces each {kind.name} of s by what value returns. A brace after a backslash stands for itself.
func expand(s string, value func(kind, name string) (string, error)) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '{' || s[i+1] == '}') {
			i++
			out.WriteByte(s[i])
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] != '{' || end < 0 {
			out.WriteByte(s[i])
			continue
		}
		key := s[i+1 : i+end]
		kind, name, _ := strings.Cut(key, ".")
		switch {
		case kind == "env" && name != "":
		case kind == "file" && filepath.IsAbs(name):
		case kind == "file":
			return "", fmt.Errorf("placeholder {%s}: expected an absolute path, as in {file./run/secrets/name}", key)
		default:
			return "", fmt.Errorf("placeholder {%s}: only {env.NAME} and {file./absolute/path} are replaced here", key)
		}
		v, err := value(kind, name)
		if err != nil {
			return "", err
		}
		out.WriteString(v)
		i += end
	}
	return out.String(), nil
}

// readSecret reads a small file without its trailing newline.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return s, nil
}
