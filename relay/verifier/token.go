package verifier

import (
	"crypto/sha256"
	"errors"

	"github.com/callbackrelay/caddy-relay/relay"
)

// TokenOptions say where a sender puts a secret that it was told.
type TokenOptions struct {
	// Secrets, any of which will do. At least one.
	Secrets []string
	// Query names the parameter of the URL's query, Header the header that is the secret. Exactly one of them.
	Query, Header string
}

// Token makes a verifier of a secret in the URL or in a header, for senders that sign nothing.
func Token(o TokenOptions) (relay.Verifier, error) {
	if err := checkSecrets(o.Secrets); err != nil {
		return nil, err
	}
	if (o.Query == "") == (o.Header == "") {
		return nil, errors.New("a token stands in either a query parameter or a header")
	}
	v := &tokenVerifier{query: o.Query, header: o.Header}
	for _, secret := range o.Secrets {
		v.sums = append(v.sums, sha256.Sum256([]byte(secret)))
	}
	return v, nil
}

type tokenVerifier struct {
	sums          [][sha256.Size]byte
	query, header string
}

func (v *tokenVerifier) Verify(c *relay.Callback) error {
	values := c.Query[v.query]
	if v.header != "" {
		values = c.Header.Values(v.header)
	}
	if len(values) != 1 {
		return errors.New("the token is missing, or stands more than once")
	}
	if !anySum(v.sums, values[0]) {
		return errors.New("the token does not match")
	}
	return nil
}

func (v *tokenVerifier) NeedsBody() bool { return false }

func (v *tokenVerifier) Headers() []string {
	if v.header == "" {
		return nil
	}
	return []string{v.header}
}
