package provider

import (
	"encoding/json"
	"strconv"
	"strings"
)

// fields is an object of an answer. Its fields are asked for in camelCase, and found in snake_case, too.
type fields map[string]any

// get returns the first of both spellings that is not null.
func (f fields) get(name string) any {
	if v := f[name]; v != nil {
		return v
	}
	return f[snakeCase(name)]
}

func (f fields) object(name string) fields {
	object, _ := f.get(name).(map[string]any)
	return object
}

func (f fields) list(name string) []any {
	list, _ := f.get(name).([]any)
	return list
}

// text returns a field's text or number as text, of which 200, 2e2 and "200" are equal; empty where it is neither.
func (f fields) text(name string) string {
	switch v := f.get(name).(type) {
	case string:
		return v
	case json.Number:
		return integer(v)
	}
	return ""
}

// integer returns a number without a fraction or exponent where it has an integer's value.
func integer(n json.Number) string {
	if len(n) > 32 || !strings.ContainsAny(string(n), ".eE") {
		return string(n)
	}
	if f, err := n.Float64(); err == nil && f == float64(int32(f)) {
		return strconv.FormatInt(int64(f), 10)
	}
	return string(n)
}

// snakeCase returns a name in camelCase as the family spells it the other way.
func snakeCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
			r |= 0x20
		}
		b.WriteRune(r)
	}
	return b.String()
}
