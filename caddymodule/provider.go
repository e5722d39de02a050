package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay/payload"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func init() {
	caddy.RegisterModule(new(Suno))
	caddy.RegisterModule(new(Kie))
	caddy.RegisterModule(new(Custom))
}

// Suno knows the callbacks of sunoapi.org: vocal separation and music generation.
type Suno struct {
	relay.Provider `json:"-"`
}

// CaddyModule returns the Caddy module information.
func (*Suno) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.providers.suno",
		New: func() caddy.Module { return &Suno{provider.Suno()} },
	}
}

// UnmarshalCaddyfile sets up the provider from Caddyfile tokens. Syntax:
//
//	suno
func (*Suno) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return nameOnly(d, "provider suno") }

// Kie knows the callbacks of kie.ai, whose field names differ. Without a secret it verifies nothing; with one, the handler
// adds the verifier kie, as it does for a preset.
type Kie struct {
	relay.Provider `json:"-"`
	Preset
}

// kieName is the name of kie as a provider and as a verifier.
const kieName = "kie"

// CaddyModule returns the Caddy module information.
func (*Kie) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.providers.kie",
		New: func() caddy.Module { return &Kie{provider.Kie(), Preset{name: kieName}} },
	}
}

// Custom reads the callbacks of any sender by gjson paths into the body. Each field takes one path, or several where
// what it names is in different places.
type Custom struct {
	relay.Provider `json:"-"`

	// Where the task's id is. If several paths find one, it must be the same. One entry header:<name>, instead of paths,
	// names a request header. Required, unless the source has the body any. Default: the SHA-256 of the body.
	TaskID Strings `json:"task_id,omitempty"`

	// Where the stage is, if callbacks of a task come in several. Default: none.
	Stage Strings `json:"stage,omitempty"`

	// Where the outcome's code is. Default: none.
	Code Strings `json:"code,omitempty"`

	// Where files are named: texts, arrays of texts, or objects whose keys end in url. Default: none.
	Files Strings `json:"files,omitempty"`

	// Below where every http or https URL is a file, at any depth. Default: none.
	FilesUnder Strings `json:"files_under,omitempty"`

	// Texts that hold JSON themselves, in which the other paths continue. They are named by keys and indexes alone.
	// Default: none.
	JSONText Strings `json:"json_text,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Custom) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.providers.custom",
		New: func() caddy.Module { return new(Custom) },
	}
}

// Provision makes the provider.
func (c *Custom) Provision(caddy.Context) (err error) {
	c.Provider, err = c.build()
	return err
}

func (c *Custom) build() (relay.Provider, error) {
	return provider.Custom(provider.Paths{
		TaskID: c.TaskID, Stage: c.Stage, Code: c.Code, Files: c.Files, FilesUnder: c.FilesUnder, JSONText: c.JSONText,
	})
}

// UnmarshalCaddyfile sets up the provider from Caddyfile tokens. Syntax:
//
//	custom {
//	    task_id <gjson path>... | header:<name>
//	    stage <gjson path>...
//	    code <gjson path>...
//	    files <gjson path>...
//	    files_under <gjson path>...
//	    json_text <gjson path>...
//	}
func (c *Custom) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's name
	start := here(d)
	if _, err := arguments(d, "provider custom { ... }", 0, 0); err != nil {
		return err
	}
	for d.NextBlock(0) {
		var to *Strings
		usage, check := d.Val()+" <gjson path>...", checkPaths
		switch d.Val() {
		case "task_id":
			to, usage, check = &c.TaskID, "task_id <gjson path>... | header:<name>", checkTaskID
		case "stage":
			to = &c.Stage
		case "code":
			to = &c.Code
		case "files":
			to = &c.Files
		case "files_under":
			to = &c.FilesUnder
		case "json_text":
			to, check = &c.JSONText, checkJSONTexts
		default:
			return errUnknown(d, "task_id, stage, code, files, files_under or json_text")
		}
		if err := setList(d, usage, (*[]string)(to), check); err != nil {
			return err
		}
	}
	if _, err := c.build(); err != nil {
		return start.errf("provider custom: %w", err)
	}
	return nil
}

// checkTaskNamed returns an error where a custom provider names no task id and the hash of the body cannot be one.
func (h *Handler) checkTaskNamed() error {
	var custom struct {
		Name   string  `json:"name"`
		TaskID Strings `json:"task_id"`
	}
	_ = json.Unmarshal(h.ProviderRaw, &custom) // what cannot be read is refused when it is loaded
	if custom.Name != "custom" || len(custom.TaskID) > 0 || h.Body == string(payload.Any) {
		return nil
	}
	return errors.New("expected task_id with the gjson path of the task id or header:<name>, or body any in the source, where the hash of the body is the id")
}

func checkPaths(paths []string) error {
	for _, p := range paths {
		if strings.HasPrefix(p, provider.TaskHeader) {
			return fmt.Errorf("expected gjson paths, got %q; a header has the task id alone", p)
		}
		if err := payload.CheckPath(p); err != nil {
			return err
		}
	}
	return nil
}

func checkTaskID(paths []string) error {
	_, err := provider.Custom(provider.Paths{TaskID: paths})
	return err
}

func checkJSONTexts(paths []string) error {
	if err := checkPaths(paths); err != nil {
		return err
	}
	_, err := payload.NewPlan(payload.Wants{Texts: paths})
	return err
}

// Interface guards
var (
	_ relay.Provider        = (*Suno)(nil)
	_ caddyfile.Unmarshaler = (*Suno)(nil)
	_ relay.Provider        = (*Kie)(nil)
	_ caddyfile.Unmarshaler = (*Kie)(nil)
	_ relay.Provider        = (*Custom)(nil)
	_ caddy.Provisioner     = (*Custom)(nil)
	_ caddyfile.Unmarshaler = (*Custom)(nil)
)
