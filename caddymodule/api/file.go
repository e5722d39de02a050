package api

import "encoding/json"

// File is a file that the payload names. Without a copy in the archive, it is its URL alone: a string instead of an object.
type File struct {
	URL         string `json:"url"`
	Field       string `json:"field"`  // where the payload names it, as a gjson path
	Object      string `json:"object"` // the name of its copy in the archive
	ContentType string `json:"content_type"`
	Size        int64  `json:"size"`   // bytes
	SHA256      string `json:"sha256"` // hex
}

// object is a File that is always an object.
type object File

// MarshalJSON implements json.Marshaler.
func (f File) MarshalJSON() ([]byte, error) {
	if f.Object == "" {
		return json.Marshal(f.URL)
	}
	return json.Marshal(object(f))
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *File) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*f = File{}
		return json.Unmarshal(b, &f.URL)
	}
	return json.Unmarshal(b, (*object)(f))
}
