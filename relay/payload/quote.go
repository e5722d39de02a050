package payload

import "encoding/json"

// AppendQuoted appends a string to JSON text, as encoding/json writes it.
func AppendQuoted(text []byte, s string) []byte {
	start := len(text)
	text = append(text, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '&': // which many URLs hold
			text = append(text, `\u0026`...)
		case c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>':
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(text[:start], quoted...)
		default:
			text = append(text, c)
		}
	}
	return append(text, '"')
}
