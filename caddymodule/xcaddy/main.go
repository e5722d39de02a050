// Command xcaddy builds Caddy with the plugins that xcaddy.json names: go run -C caddymodule/xcaddy . in the repository's root.
// It is a module of its own, so that the gateway's needs neither xcaddy nor what xcaddy needs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
)

func main() {
	config := flag.String("config", "../../xcaddy.json", "an xcaddy.Builder as JSON")
	output := flag.String("output", "../../caddy", "the binary to write")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, *config, *output); err != nil {
		log.Fatal(err)
	}
}

func build(ctx context.Context, config, output string) error {
	builder, err := load(config)
	if err != nil {
		return err
	}
	return builder.Build(ctx, output)
}

// load reads a builder. Its replacements are folders relative to the file, while xcaddy builds in a folder of its own.
func load(config string) (xcaddy.Builder, error) {
	var builder xcaddy.Builder
	text, err := os.ReadFile(config)
	if err != nil {
		return builder, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&builder); err != nil {
		return builder, fmt.Errorf("%s: %w", config, err)
	}
	root, err := filepath.Abs(filepath.Dir(config))
	if err != nil {
		return builder, err
	}
	for i, r := range builder.Replacements {
		if path := string(r.New); path == "." || strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") {
			builder.Replacements[i].New = xcaddy.ReplacementPath(filepath.Join(root, path))
		}
	}
	return builder, nil
}
