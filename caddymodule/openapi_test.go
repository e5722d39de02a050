package caddymodule

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// openAPI has the parts of the document that the test reads.
type openAPI struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Parameters  []struct{ Name, In string } `json:"parameters"`
	RequestBody *struct {
		Content map[string]media `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]media `json:"content"`
	} `json:"responses"`
}

type media struct {
	Schema struct {
		Ref string `json:"$ref"`
	} `json:"schema"`
}

func readOpenAPI(t *testing.T) (doc openAPI) {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every route is documented, under the methods that it takes.
func TestOpenAPIRoutes(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, "http://127.0.0.1:9", nil))
	doc, mux := readOpenAPI(t), adminMux(t)
	routed := map[string]bool{}
	for _, route := range new(AdminAPI).Routes() {
		if route.Pattern == "/relay/" {
			continue // what is at no other path
		}
		routed[route.Pattern] = true
	}
	for path, operations := range doc.Paths {
		if !routed[path] {
			t.Errorf("%s is no route", path)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, strings.NewReplacer("{", "", "}", "").Replace(path), nil))
		if op, ok := operations["get"]; ok {
			checkParameters(t, mux, path, op)
		}
		methods := strings.ToUpper(strings.Join(slices.Sorted(maps.Keys(operations)), ", "))
		if got := w.Header().Get("Allow"); w.Code != http.StatusMethodNotAllowed || got != methods {
			t.Errorf("%s allows %q, and %q is documented", path, got, methods)
		}
		delete(routed, path)
	}
	for path := range routed {
		t.Errorf("%s is not documented", path)
	}
}

// checkParameters compares the documented parameters with those that the error about an unknown one names.
func checkParameters(t *testing.T, mux http.Handler, path string, op operation) {
	t.Helper()
	var query []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			query = append(query, p.Name)
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?unknown=1", nil))
	var answer api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if want := "expected " + cmp.Or(strings.Join(query, ", "), "none") + "."; !strings.HasSuffix(answer.Message, want) {
		t.Errorf("%s: documented with %v, and answers %q", path, query, answer.Message)
	}
}

// The schemas are those of the types that are sent, and each of them is used.
func TestOpenAPISchemas(t *testing.T) {
	doc := readOpenAPI(t)
	want := schemas{}
	for _, v := range []any{
		api.Error{},
		api.Status{},
		api.Events{},
		api.Event{},
		api.ReplayEventRequest{},
		api.ReplayRequest{},
		api.Replayed{},
		api.DeadLetters{},
		api.RedriveRequest{},
		api.Redriven{},
		api.DiscardRequest{},
		api.Discarded{},
		api.Paused{},
		api.ReassignRequest{},
		api.Reassigned{},
		api.Rejections{},
		api.RejectionAccepted{},
		api.Tasks{},
		api.ExpectRequest{},
		api.Expected{},
		api.StreamEvent{},
		api.SendRequest{},
		api.Sent{},
		api.Doctor{},
	} {
		want.of(reflect.TypeOf(v))
	}
	used, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	for name, schema := range want {
		var got any
		if err := json.Unmarshal(doc.Components.Schemas[name], &got); err != nil {
			t.Errorf("schema %s: %v", name, err)
			continue
		}
		plain, err := json.Marshal(withoutDescriptions(got))
		if err != nil {
			t.Fatal(err)
		}
		expected, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		if string(plain) != string(expected) {
			t.Errorf("schema %s is\n%s\nand should be\n%s", name, plain, expected)
		}
		if !strings.Contains(string(used), `"#/components/schemas/`+name+`"`) {
			t.Errorf("schema %s is not used", name)
		}
	}
	for name := range doc.Components.Schemas {
		if want[name] == nil {
			t.Errorf("schema %s is of no type", name)
		}
	}
}

// schemas are the schemas of types by their names, as encoding/json writes them.
type schemas map[string]map[string]any

func (s schemas) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case reflect.TypeFor[api.Rate]():
		return map[string]any{"type": []string{"number", "string"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if s[t.Name()] == nil {
			properties := map[string]any{}
			s[t.Name()] = map[string]any{"type": "object", "properties": properties}
			s.fields(t, properties)
			if t == reflect.TypeFor[api.File]() {
				s[t.Name()]["type"] = []string{"object", "string"}
			}
		}
		return map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	default:
		panic("no schema of " + t.String())
	}
}

// fields adds the fields of a struct, those of embedded ones too.
func (s schemas) fields(t reflect.Type, properties map[string]any) {
	for f := range t.Fields() {
		if f.Anonymous {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			s.fields(embedded, properties)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[name] = s.of(f.Type)
		if f.Type.Kind() == reflect.Pointer && options != "omitempty" {
			properties[name] = map[string]any{"oneOf": []any{properties[name], map[string]any{"type": "null"}}}
		}
	}
}

// withoutDescriptions leaves out what is for people alone.
func withoutDescriptions(v any) any {
	switch v := v.(type) {
	case map[string]any:
		plain := map[string]any{}
		for name, value := range v {
			if _, text := value.(string); name != "description" || !text {
				plain[name] = withoutDescriptions(value)
			}
		}
		return plain
	case []any:
		for i := range v {
			v[i] = withoutDescriptions(v[i])
		}
	}
	return v
}
