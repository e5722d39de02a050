package verifier

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// TokenOptions describe where a sender repeats a secret that it was told.
type TokenOptions struct {
	// Secrets, any of which will do. At least one.
	Secrets []string
	// Query names a parameter of the URL's query, Header a header, and Body is the gjson path of a string in the body, as
	// payload.CheckPath allows it. Exactly one of them.
	Query, Header, Body string
}

// Token returns a verifier of a secret in the URL, in a header or in the body, for senders that sign nothing.
func Token(o TokenOptions) (relay.Verifier, error) {
	if err := checkSecrets(o.Secrets); err != nil {
		return nil, err
	}
	places := 0
	for _, place := range []string{o.Query, o.Header, o.Body} {
		if place != "" {
			places++
		}
	}
	if places != 1 {
		return nil, errors.New("expected one of query, header and body, which is where the token is sent")
	}
	if o.Header != "" {
		if err := checkHeaderName("header", o.Header); err != nil {
			return nil, err
		}
	}
	v := &tokenVerifier{query: o.Query, header: o.Header}
	if o.Body != "" {
		if err := payload.CheckPath(o.Body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		var err error
		if v.body, err = payload.NewPlan(payload.Wants{Values: []string{o.Body}}); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	for _, secret := range o.Secrets {
		v.sums = append(v.sums, sha256.Sum256([]byte(secret)))
	}
	return v, nil
}

type tokenVerifier struct {
	sums          [][sha256.Size]byte
	query, header string
	body          *payload.Plan // finds the token; nil unless it is in the body
}

func (v *tokenVerifier) Verify(c *relay.Callback) error {
	token, err := v.token(c)
	if err != nil {
		return err
	}
	if !anySum(v.sums, token) {
		return errors.New("the token does not match")
	}
	return nil
}

func (v *tokenVerifier) token(c *relay.Callback) (string, error) {
	if v.body != nil {
		// Nobody has vouched for the body yet, so it may be anything.
		doc, err := payload.Document(c.Format, c.Body)
		if err != nil {
			return "", err
		}
		var found payload.Found
		if err := v.body.ReadAny(doc, &found); err != nil {
			return "", err
		}
		token := found.Value(0)
		if !token.IsString() {
			return "", errors.New("the body has no token where it should be")
		}
		return token.Text(), nil
	}
	values := c.Query[v.query]
	if v.header != "" {
		values = c.Header.Values(v.header)
	}
	if len(values) != 1 {
		return "", errors.New("the token is missing, or sent more than once")
	}
	return values[0], nil
}

func (v *tokenVerifier) NeedsBody() bool { return v.body != nil }

// withURL are headers in which proxies repeat the URL that they were asked for, with its query.
var withURL = []string{
	"Referer", "X-Envoy-Original-Path", "X-Forwarded-Uri", "X-Forwarded-Url", "X-Original-Path", "X-Original-Uri", "X-Original-Url", "X-Rewrite-Url",
}

// Headers are those that may hold the token.
func (v *tokenVerifier) Headers() []string {
	switch {
	case v.query != "":
		return withURL
	case v.header != "":
		return []string{v.header}
	}
	return nil
}
