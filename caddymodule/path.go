package caddymodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// filePath returns the real path of a file, which need not exist yet, and whose folders are made when it is opened.
func filePath(path string) (string, error) {
	if err := checkFolder(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return "", fmt.Errorf("%s is a folder; expected a file, which may be in it", path)
	}
	resolved, err := realPath(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w; check owner and permissions of its folders, or name another path", path, err)
	}
	return resolved, nil
}

// checkFolder returns an error if path can never be a folder, since a file has its name or that of a folder above it.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file; expected a folder, or a path that does not exist yet", path)
	case err == nil, path == filepath.Dir(path):
		return nil // what cannot be looked at may be there later
	}
	return checkFolder(filepath.Dir(path))
}

// realPath resolves the links of the part of path that exists.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		resolved, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(resolved, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return "", err
		}
		rest = filepath.Join(filepath.Base(path), rest)
		path = filepath.Dir(path)
	}
}
