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

// Value is a value in a body; the zero one is not there.
type Value struct{ raw []byte }

// Present reports whether there is a value other than null.
func (v Value) Present() bool { return len(v.raw) > 0 && v.raw[0] != 'n' }

// IsString reports whether v is a string.
func (v Value) IsString() bool { return len(v.raw) > 0 && v.raw[0] == '"' }

// IsNumber reports whether v is a number.
func (v Value) IsNumber() bool { return len(v.raw) > 0 && (v.raw[0] == '-' || isDigit(v.raw[0])) }

// IsNested reports whether v is an object or an array.
func (v Value) IsNested() bool { return len(v.raw) > 0 && (v.raw[0] == '{' || v.raw[0] == '[') }

// Bytes returns Text, which may share the memory of the body.
func (v Value) Bytes() []byte {
	switch {
	case !v.Present():
		return nil
	case v.IsString():
		return content(v.raw, bytes.IndexByte(v.raw, '\\') >= 0)
	case v.IsNumber():
		if bytes.ContainsAny(v.raw, "-.eE") {
			num, _ := strconv.ParseFloat(string(v.raw), 64)
			if n, ok := integer(num); ok {
				return strconv.AppendInt(nil, n, 10)
			}
		}
	case v.IsNested():
		var compact bytes.Buffer
		if json.Compact(&compact, v.raw) == nil {
			return compact.Bytes()
		}
	}
	return v.raw
}

// Text returns the value as text: 200, 2e2 and "200" are equal, and white space within an object or array does not
// count. A value that is null or not there is empty.
func (v Value) Text() string { return string(v.Bytes()) }

// Native returns a value as Go has it: nil, bool, string, int64 for a number without a fraction, else float64, []any and
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
		if n, ok := integer(v.Num); ok {
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

// integer returns a number without a fraction, however it was written.
func integer(num float64) (n int64, ok bool) {
	if num != math.Trunc(num) || math.Abs(num) >= exact {
		return 0, false
	}
	return int64(num), true
}
