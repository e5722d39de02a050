package payload

import (
	"slices"
	"strings"
)

// SetMember returns a body, which must be a JSON object, with the member name at the front of its top level. The members whose
// key is one of replaced are left out: in any letter case, however the key is escaped, and however often it is there. All else
// stays byte for byte, a byte order mark included. value is JSON. The error is ErrNotObject, ErrInvalidUTF8 or ErrTooDeep.
func SetMember(body []byte, name string, value []byte, replaced ...string) ([]byte, error) {
	doc, _ := Document(JSON, body) // fails for forms alone
	open := skipSpace(doc, 0)
	if open == len(doc) || doc[open] != '{' {
		return nil, ErrNotObject
	}
	if err := refusal(walk(doc, spot{}, nil)); err != nil {
		return nil, err
	}
	set := make([]byte, 0, len(body)+len(name)+len(value)+len(`"":,`))
	set = append(set, body[:len(body)-len(doc)+open+1]...)
	set = append(append(append(set, '"'), name...), '"', ':')
	set = append(set, value...)
	// A member reaches from one delimiter to the next, so that the white space around it stays or goes with it.
	from := open + 1
	for i := skipSpace(doc, from); doc[i] == '"'; i = skipSpace(doc, from) {
		end, escaped := scanString(doc, i)
		key := string(content(doc[i:end], escaped))
		colon := skipSpace(doc, end)
		end = skipSpace(doc, walkValue(nil, doc, skipSpace(doc, colon+1), spot{}, 1))
		if !slices.ContainsFunc(replaced, func(r string) bool { return strings.EqualFold(r, key) }) {
			set = append(append(set, ','), doc[from:end]...)
		}
		if from = end; doc[end] == ',' {
			from++
		}
	}
	return append(set, doc[from:]...), nil
}
