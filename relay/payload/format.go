package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Format names the form that the body of a callback has.
type Format string

const (
	// JSON is an object in JSON, with or without a byte order mark before it. It is the default; the empty format is it, too.
	JSON Format = "json"
	// Form is application/x-www-form-urlencoded. Its fields are read as one flat object of strings.
	Form Format = "form"
	// Any is whatever comes. It is read as far as it is JSON, of which the top may be any value.
	Any Format = "any"
)

// IsJSON reports whether a Content-Type says JSON, with or without parameters.
func IsJSON(contentType string) bool {
	t := contentType
	if t != "application/json" {
		t = MediaType(contentType)
	}
	return t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")
}

// MediaType returns a Content-Type without its parameters, in lower case; empty if it is malformed.
func MediaType(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return t
}

// maxFields is how many fields of a form are read: each becomes several times as long as it came.
const maxFields = 10_000

// Why a form is refused. Each is one sentence for the sender.
var (
	ErrNotForm       = errors.New("the body is not a form in application/x-www-form-urlencoded")
	ErrTooManyFields = errors.New("the form has more than 10000 fields")
)

// Document returns what paths lead into: the JSON that a body is, without its byte order mark, or the object of a form's
// fields. It shares the memory of the body where that is JSON. It checks forms alone; the error is ErrNotForm,
// ErrTooManyFields or ErrInvalidUTF8.
func Document(f Format, body []byte) ([]byte, error) {
	if f == Form {
		return formObject(body)
	}
	return bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), nil
}

// formObject returns the fields as an object, in their order and each as often as it came: a repeated one is then refused
// like any repeated key, if somebody reads it.
func formObject(body []byte) ([]byte, error) {
	body = bytes.TrimRight(body, "\r\n") // as files end
	if bytes.Count(body, []byte("&")) >= maxFields {
		return nil, ErrTooManyFields
	}
	object := bytes.NewBufferString("{")
	for field := range bytes.SplitSeq(body, []byte("&")) {
		if len(field) == 0 {
			continue
		}
		if object.Len() > 1 {
			object.WriteByte(',')
		}
		name, value, _ := bytes.Cut(field, []byte("="))
		if err := appendField(object, name); err != nil {
			return nil, err
		}
		object.WriteByte(':')
		if err := appendField(object, value); err != nil {
			return nil, err
		}
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}

// appendField appends a field's name or value as a JSON string.
func appendField(object *bytes.Buffer, escaped []byte) error {
	text, err := url.QueryUnescape(string(escaped))
	if err != nil || bytes.ContainsFunc(escaped, func(r rune) bool { return r < ' ' }) {
		return ErrNotForm
	}
	if !utf8.ValidString(text) {
		return ErrInvalidUTF8
	}
	quote := json.NewEncoder(object) // the line break that it appends is white space to JSON
	quote.SetEscapeHTML(false)       // which would make one character six
	return quote.Encode(text)
}
