package payload

import "encoding/json"

// AppendQuoted appends a string to JSON text, as encoding/json writes it.
func AppendQuoted(text []byte, s string) []byte {
	start, from := len(text), 0
	text = append(text, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '&': // which many URLs hold
			text = append(append(text, s[from:i]...), `\u0026`...)
			from = i + 1
		case c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>':
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(text[:start], quoted...)
		}
	}
	return append(append(text, s[from:]...), '"')
}
