package caddymodule

import "encoding/json"

// Strings is one text or several: in JSON a string, or an array of strings.
type Strings []string

// UnmarshalJSON reads a string or an array of strings.
func (s *Strings) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// MarshalJSON writes a single text as a string.
func (s Strings) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(s[0])
	}
	return json.Marshal([]string(s))
}

// Interface guards
var (
	_ json.Marshaler   = Strings(nil)
	_ json.Unmarshaler = (*Strings)(nil)
)
