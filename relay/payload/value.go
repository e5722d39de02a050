// Package payload is about what may be read from a callback's body: whether everybody reads the same from it, by which
// paths it is read, and in which form values are compared.
package payload

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/tidwall/gjson"
)

// exact is where float64 stops telling every integer from its neighbours.
const exact = 1 << 53

// Text is a value as text: 200, 2e2 and "200" are equal, and white space within an object or array does not count.
// A value that is null or not there is empty.
func Text(v gjson.Result) string {
	switch v.Type {
	case gjson.Null:
		return ""
	case gjson.String:
		return v.Str
	case gjson.Number:
		if isDigits(v.Raw) {
			return v.Raw
		}
		if n, ok := integer(v); ok {
			return strconv.FormatInt(n, 10)
		}
	case gjson.JSON:
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(v.Raw)) == nil {
			return compact.String()
		}
	}
	return v.Raw
}

// Native is a value as Go has it: nil, bool, string, int64 for a number without a fraction, else float64, []any and
// map[string]any, in which the last of a repeated key counts, as in encoding/json. What is nested deeper than
// depth levels is nil.
func Native(v gjson.Result, depth int) any {
	switch v.Type {
	case gjson.False, gjson.True:
		return v.Type == gjson.True
	case gjson.String:
		return v.Str
	case gjson.Number:
		if n, err := strconv.ParseInt(v.Raw, 10, 64); err == nil {
			return n
		}
		if n, ok := integer(v); ok {
			return n
		}
		return v.Num
	case gjson.JSON:
		if depth == 0 {
			return nil
		}
		if v.IsArray() {
			list := []any{}
			v.ForEach(func(_, e gjson.Result) bool {
				list = append(list, Native(e, depth-1))
				return true
			})
			return list
		}
		object := map[string]any{}
		v.ForEach(func(k, e gjson.Result) bool {
			object[k.Str] = Native(e, depth-1)
			return true
		})
		return object
	}
	return nil
}

// integer gives a number that is written with a fraction or an exponent and has no fraction.
func integer(v gjson.Result) (n int64, ok bool) {
	if v.Num != math.Trunc(v.Num) || math.Abs(v.Num) >= exact {
		return 0, false
	}
	return int64(v.Num), true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
