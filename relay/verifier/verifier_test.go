package verifier_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

var now = time.Unix(1_700_000_000, 0)

const stamp = "1700000000"

func mac(h func() hash.Hash, key, message string) []byte {
	m := hmac.New(h, []byte(key))
	m.Write([]byte(message))
	return m.Sum(nil)
}

func hexMAC(key, message string) string { return hex.EncodeToString(mac(sha256.New, key, message)) }

func base64MAC(key, message string) string {
	return base64.StdEncoding.EncodeToString(mac(sha256.New, key, message))
}

func must(tb testing.TB) func(v relay.Verifier, err error) relay.Verifier {
	tb.Helper()
	return func(v relay.Verifier, err error) relay.Verifier {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

type verification struct {
	name string
	c    relay.Callback
	ok   bool
}

func run(t *testing.T, v relay.Verifier, cases []verification) {
	t.Helper()
	for _, c := range cases {
		c.c.Now = now
		err := v.Verify(&c.c)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			continue
		}
		for _, values := range c.c.Header {
			for _, value := range values {
				if len(value) > 3 && strings.Contains(err.Error(), value) {
					t.Errorf("%s: the error shows %s: %v", c.name, value, err)
				}
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the secret: %v", c.name, err)
		}
	}
}

func TestHMACOfTheBody(t *testing.T) {
	v := must(t)(verifier.HMAC(verifier.HMACOptions{Secrets: []string{"s3cret", "s3cret2"}, Header: "x-signature", Prefix: "sha256="}))
	with := func(values ...string) http.Header { return http.Header{"X-Signature": values} }
	body := []byte(`{"a":1}`)
	good := hexMAC("s3cret", string(body))
	run(t, v, []verification{
		{"good", relay.Callback{Header: with("sha256=" + good), Body: body}, true},
		{"upper case", relay.Callback{Header: with("sha256=" + strings.ToUpper(good)), Body: body}, true},
		{"second secret", relay.Callback{Header: with("sha256=" + hexMAC("s3cret2", string(body))), Body: body}, true},
		{"other secret", relay.Callback{Header: with("sha256=" + hexMAC("other", string(body))), Body: body}, false},
		{"other body", relay.Callback{Header: with("sha256=" + good), Body: []byte(`{"a":2}`)}, false},
		{"no header", relay.Callback{Body: body}, false},
		{"empty header", relay.Callback{Header: with(""), Body: body}, false},
		{"two headers", relay.Callback{Header: with("sha256="+good, "sha256="+good), Body: body}, false},
		{"no prefix", relay.Callback{Header: with(good), Body: body}, false},
		{"empty signature", relay.Callback{Header: with("sha256="), Body: body}, false},
		{"cut", relay.Callback{Header: with("sha256=" + good[:32]), Body: body}, false},
		{"odd", relay.Callback{Header: with("sha256=" + good[:33]), Body: body}, false},
		{"no hex", relay.Callback{Header: with("sha256=" + strings.Repeat("z", 64)), Body: body}, false},
		{"longer", relay.Callback{Header: with("sha256=" + good + "00"), Body: body}, false},
	})
	if !v.NeedsBody() || !slices.Equal(v.Headers(), []string{"x-signature"}) {
		t.Error(v.NeedsBody(), v.Headers())
	}
}

func TestHMACAlgorithmsAndEncodings(t *testing.T) {
	body := "b"
	for _, c := range []struct {
		algorithm, encoding, signature string
		ok                             bool
	}{
		{"sha256", "hex", hexMAC("k", body), true},
		{"sha512", "hex", hex.EncodeToString(mac(sha512.New, "k", body)), true},
		{"sha512", "base64", base64.StdEncoding.EncodeToString(mac(sha512.New, "k", body)), true},
		{"sha1", "hex", hex.EncodeToString(mac(sha1.New, "k", body)), true},
		{"sha512", "base64url", base64.URLEncoding.EncodeToString(mac(sha512.New, "k", body)), true},
		{"sha512", "base64url", base64.RawURLEncoding.EncodeToString(mac(sha512.New, "k", body)), true},
		{"sha512", "base64url", base64.StdEncoding.EncodeToString(mac(sha512.New, "k", body)), false},
		{"sha256", "base64", base64MAC("k", body), true},
		{"sha512", "hex", hexMAC("k", body), false},
		{"sha256", "base64", hexMAC("k", body), false},
		{"sha256", "base64", strings.TrimRight(base64MAC("k", body), "="), false},
	} {
		v := must(t)(verifier.HMAC(verifier.HMACOptions{Secrets: []string{"k"}, Header: "S", Algorithm: c.algorithm, Encoding: c.encoding}))
		err := v.Verify(&relay.Callback{Header: http.Header{"S": {c.signature}}, Body: []byte(body)})
		if (err == nil) != c.ok {
			t.Errorf("%s %s %s: %v", c.algorithm, c.encoding, c.signature, err)
		}
	}
}

func TestHMACTemplate(t *testing.T) {
	const key = "s3cret"
	header := func(signature, at string) http.Header {
		return http.Header{"Signature": {signature}, "Time": {at}, "X-Id": {"7"}}
	}
	for _, c := range []struct {
		signed, timestampHeader, message string
		needsBody                        bool
	}{
		{"", "", "body", true},
		{`{body}\n{body}\\n`, "", "body\nbody\\n", true},
		{"{body_sha256}", "", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5", true},
		{"{header.time} {body_sha256}", "time", stamp + " 230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5", true},
		{"", "time", stamp + ".body", true},
		{"v0:{timestamp}:{body}", "time", "v0:" + stamp + ":body", true},
		{"{task_id}.{timestamp}", "time", "task." + stamp, true},
		{"{header.x-id}.{timestamp}", "time", "7." + stamp, false},
		{"{header.X-ID}{body}{body}}", "", "7bodybody}", true},
	} {
		v := must(t)(verifier.HMAC(verifier.HMACOptions{Secrets: []string{key}, Header: "signature", Signed: c.signed, TimestampHeader: c.timestampHeader}))
		callback := &relay.Callback{Header: header(hexMAC(key, c.message), stamp), Body: []byte("body"), TaskID: "task", Now: now}
		if err := v.Verify(callback); err != nil {
			t.Errorf("%s: %v", c.signed, err)
		}
		if v.NeedsBody() != c.needsBody {
			t.Errorf("%s: needs the body: %v", c.signed, v.NeedsBody())
		}
		callback.Header.Set("Signature", hexMAC(key, c.message+" "))
		if v.Verify(callback) == nil {
			t.Errorf("%s: another message passes", c.signed)
		}
	}
}

func TestHMACTimestamp(t *testing.T) {
	v := must(t)(verifier.HMAC(verifier.HMACOptions{Secrets: []string{"k"}, Header: "S", TimestampHeader: "T", Tolerance: time.Minute}))
	signed := func(at string) relay.Callback {
		return relay.Callback{Header: http.Header{"S": {hexMAC("k", at+".b")}, "T": {at}}, Body: []byte("b")}
	}
	moved := signed("1699999000")
	moved.Header.Set("T", stamp)
	twice := signed(stamp)
	twice.Header.Add("T", stamp)
	cases := []verification{{"renewed", moved, false}, {"two timestamps", twice, false}}
	for at, ok := range map[string]bool{
		stamp: true, "1699999940": true, "1700000060": true, "1699999939": false, "1700000061": false,
		"": false, "-1700000000": false, "+1700000000": false, " 1700000000": false, "1700000000.0": false, "1.7e9": false,
		"1700000000000": false, "9223372036854775807": false, "99999999999999999999": false, "0": false, "x": false,
	} {
		cases = append(cases, verification{"at " + at, signed(at), ok})
	}
	run(t, v, cases)
	if !slices.Equal(v.Headers(), []string{"S", "T"}) {
		t.Error(v.Headers())
	}
}

// TestHMACList reads the lists that Stripe, Mux and ElevenLabs send.
func TestHMACList(t *testing.T) {
	v := must(t)(verifier.HMAC(verifier.HMACOptions{
		Secrets: []string{"s3cret", "s3cret2"}, Header: "Stripe-Signature", Scheme: []string{"v1", "v2"}, Timestamp: "t",
	}))
	list := func(entries ...string) relay.Callback {
		return relay.Callback{Header: http.Header{"Stripe-Signature": {strings.Join(entries, ",")}}, Body: []byte("body")}
	}
	good, second, other := hexMAC("s3cret", stamp+".body"), hexMAC("s3cret2", stamp+".body"), hexMAC("other", stamp+".body")
	at := "t=" + stamp
	stale := fmt.Sprint(now.Unix() - 1801)
	run(t, v, []verification{
		{"good", list(at, "v1="+good), true},
		{"second secret", list(at, "v1="+second), true},
		{"second scheme", list(at, "v2="+good), true},
		{"in any order", list("v0="+other, "v1="+other, " v1="+good, "\t"+at), true},
		{"beside one that cannot be read", list(at, "v1=zz", "v1="+good), true},
		{"beside what is no entry", list(at, "", "v1", "=", "v1="+good), true},
		{"30 minutes old", list("t="+fmt.Sprint(now.Unix()-1800), "v1="+hexMAC("s3cret", fmt.Sprint(now.Unix()-1800)+".body")), true},
		{"stale", list("t="+stale, "v1="+hexMAC("s3cret", stale+".body")), false},
		{"renewed", list(at, "v1="+hexMAC("s3cret", stale+".body")), false},
		{"other secret", list(at, "v1="+other), false},
		{"other scheme", list(at, "v0="+good), false},
		{"other case", list(at, "V1="+good), false},
		{"no signature", list(at), false},
		{"empty signature", list(at, "v1="), false},
		{"no time", list("v1=" + good), false},
		{"empty time", list("t=", "v1="+good), false},
		{"two times", list(at, at, "v1="+good), false},
		{"two headers", relay.Callback{Header: http.Header{"Stripe-Signature": {at + ",v1=" + good, at}}, Body: []byte("body")}, false},
		{"bare", list(good), false},
		{"no header", relay.Callback{Body: []byte("body")}, false},
	})
	err := v.Verify(&relay.Callback{Header: list("t="+stale, "v1="+good).Header, Body: []byte("body"), Now: now})
	if err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("an old timestamp is refused with %v", err)
	}
	if !v.NeedsBody() || !slices.Equal(v.Headers(), []string{"Stripe-Signature"}) {
		t.Error(v.NeedsBody(), v.Headers())
	}

	// A list without a time, whose signatures have padding.
	v = must(t)(verifier.HMAC(verifier.HMACOptions{
		Secrets: []string{"s3cret"}, Header: "S", Scheme: []string{"sig"}, Encoding: "base64",
	}))
	run(t, v, []verification{
		{"padding", relay.Callback{Header: http.Header{"S": {"kid=1, sig=" + base64MAC("s3cret", "body")}}, Body: []byte("body")}, true},
	})
}

func TestHMACTaskMustBeNamed(t *testing.T) {
	v := must(t)(verifier.Kie([]string{"k"}, 0))
	run(t, v, []verification{{"no task", relay.Callback{Header: http.Header{
		"X-Webhook-Signature": {base64MAC("k", "."+stamp)}, "X-Webhook-Timestamp": {stamp},
	}}, false}})
}

func TestHMACRefusesOptions(t *testing.T) {
	for want, o := range map[string]verifier.HMACOptions{
		"sha256, sha512 or sha1":               {Secrets: []string{"k"}, Header: "S", Algorithm: "md5"},
		"hex, base64 or base64url":             {Secrets: []string{"k"}, Header: "S", Encoding: "base32"},
		"needs a secret":                       {Header: "S"},
		"not be empty":                         {Header: "S", Secrets: []string{"k", ""}},
		"header":                               {Secrets: []string{"k"}},
		"name of a header, got \"S S\"":        {Secrets: []string{"k"}, Header: "S S"},
		"timestamp_header: expected the name":  {Secrets: []string{"k"}, Header: "S", TimestampHeader: "T:"},
		"timestamp: expected scheme":           {Secrets: []string{"k"}, Header: "S", Timestamp: "t"},
		"either prefix or scheme":              {Secrets: []string{"k"}, Header: "S", Prefix: "p", Scheme: []string{"v1"}},
		"either timestamp or timestamp_header": {Secrets: []string{"k"}, Header: "S", Scheme: []string{"v1"}, Timestamp: "t", TimestampHeader: "T"},
		"got \"v=1\"":                          {Secrets: []string{"k"}, Header: "S", Scheme: []string{"v=1"}},
		"got \"t,\"":                           {Secrets: []string{"k"}, Header: "S", Scheme: []string{"v1"}, Timestamp: "t,"},
		"scheme: a key must not be empty":      {Secrets: []string{"k"}, Header: "S", Scheme: []string{"v1", ""}},
		"t is a scheme already":                {Secrets: []string{"k"}, Header: "S", Scheme: []string{"v1", "t"}, Timestamp: "t"},
		`expected \n or \\ at "\\t{body}"`:     {Secrets: []string{"k"}, Header: "S", Signed: `{body}\t{body}`},
		"placeholder {header.a b}":             {Secrets: []string{"k"}, Header: "S", Signed: "{header.a b}"},
		"negative":                             {Secrets: []string{"k"}, Header: "S", TimestampHeader: "T", Tolerance: -1},
		"unknown placeholder":                  {Secrets: []string{"k"}, Header: "S", Signed: "{bodi}"},
		"placeholder {header.}":                {Secrets: []string{"k"}, Header: "S", Signed: "{header.}"},
		"closing brace":                        {Secrets: []string{"k"}, Header: "S", Signed: "{body"},
		"timestamp_header":                     {Secrets: []string{"k"}, Header: "S", Signed: "{timestamp}{body}"},
		"expected the timestamp":               {Secrets: []string{"k"}, Header: "S", Signed: "{body}", TimestampHeader: "T"},
		"same signature":                       {Secrets: []string{"k"}, Header: "S", Signed: "ping"},
	} {
		v, err := verifier.HMAC(o)
		if v != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

func TestKie(t *testing.T) {
	v := must(t)(verifier.Kie([]string{"old", "s3cret"}, 0))
	callback := func(task string, at string) relay.Callback {
		return relay.Callback{TaskID: task, Header: http.Header{
			"X-Webhook-Signature": {base64MAC("s3cret", "task."+at)}, "X-Webhook-Timestamp": {at},
		}}
	}
	run(t, v, []verification{
		{"good", callback("task", stamp), true},
		{"retry after 15 minutes", callback("task", fmt.Sprint(now.Unix()-21*60)), true},
		{"too old", callback("task", fmt.Sprint(now.Unix()-31*60)), false},
		{"from the future", callback("task", fmt.Sprint(now.Unix()+31*60)), false},
		{"other task", callback("task2", stamp), false},
		{"unsigned", relay.Callback{TaskID: "task"}, false},
	})
	if !v.NeedsBody() || !slices.Equal(v.Headers(), []string{"X-Webhook-Signature", "X-Webhook-Timestamp"}) {
		t.Error(v.NeedsBody(), v.Headers())
	}
}

func TestStandardWebhooks(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	v := must(t)(verifier.StandardWebhooks([]string{"b2xk", secret}, 0))
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	sign := func(id, at, body string) string { return "v1," + base64MAC(string(key), id+"."+at+"."+body) }
	callback := func(id, at string, signatures ...string) relay.Callback {
		return relay.Callback{Body: []byte("body"), Header: http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": signatures,
		}}
	}
	good := sign("id", stamp, "body")
	late, early := fmt.Sprint(now.Unix()-301), fmt.Sprint(now.Unix()+301)
	run(t, v, []verification{
		{"good", callback("id", stamp, good), true},
		{"old secret", callback("id", stamp, "v1,"+base64MAC("old", "id."+stamp+".body")), true},
		{"among others", callback("id", stamp, "v1a,x v1, v2,"+good[3:]+" "+good), true},
		{"within the tolerance", callback("id", fmt.Sprint(now.Unix()-300), sign("id", fmt.Sprint(now.Unix()-300), "body")), true},
		{"too old", callback("id", late, sign("id", late, "body")), false},
		{"from the future", callback("id", early, sign("id", early, "body")), false},
		{"other id", callback("id2", stamp, good), false},
		{"other body", callback("id", stamp, sign("id", stamp, "body2")), false},
		{"other version", callback("id", stamp, "v2,"+good[3:]), false},
		{"bare", callback("id", stamp, good[3:]), false},
		{"two headers", callback("id", stamp, good, good), false},
		{"none", callback("id", stamp), false},
		{"odd timestamp", callback("id", "+"+stamp, good), false},
		{"no id", callback("", stamp, sign("", stamp, "body")), false},
	})
	if !v.NeedsBody() || len(v.Headers()) != 3 {
		t.Error(v.NeedsBody(), v.Headers())
	}
	for _, secrets := range [][]string{nil, {""}, {"whsec_"}, {"whsec_whsec_"}, {"s3cret!"}} {
		if _, err := verifier.StandardWebhooks(secrets, 0); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", secrets, err)
		}
	}
	if _, err := verifier.StandardWebhooks([]string{secret}, -1); err == nil {
		t.Error("a negative tolerance passes")
	}
}

func TestToken(t *testing.T) {
	query := must(t)(verifier.Token(verifier.TokenOptions{Secrets: []string{"s3cret", "s3cret2"}, Query: "token"}))
	run(t, query, []verification{
		{"good", relay.Callback{Query: url.Values{"token": {"s3cret"}}}, true},
		{"second", relay.Callback{Query: url.Values{"token": {"s3cret2"}}}, true},
		{"wrong", relay.Callback{Query: url.Values{"token": {"s3cret3"}}}, false},
		{"empty", relay.Callback{Query: url.Values{"token": {""}}}, false},
		{"twice", relay.Callback{Query: url.Values{"token": {"s3cret", "s3cret"}}}, false},
		{"other name", relay.Callback{Query: url.Values{"Token": {"s3cret"}}}, false},
		{"none", relay.Callback{}, false},
		{"in a header", relay.Callback{Header: http.Header{"Token": {"s3cret"}}}, false},
	})
	header := must(t)(verifier.Token(verifier.TokenOptions{Secrets: []string{"s3cret"}, Header: "x-token"}))
	run(t, header, []verification{
		{"good", relay.Callback{Header: http.Header{"X-Token": {"s3cret"}}}, true},
		{"wrong", relay.Callback{Header: http.Header{"X-Token": {"s3cre"}}}, false},
		{"twice", relay.Callback{Header: http.Header{"X-Token": {"s3cret", "s3cret"}}}, false},
		{"none", relay.Callback{}, false},
	})
	inBody := must(t)(verifier.Token(verifier.TokenOptions{Secrets: []string{"s3cret"}, Body: "config.webhook_config.secret"}))
	for body, ok := range map[string]bool{
		`{"config":{"webhook_config":{"secret":"s3cret"}}}`:                    true,
		`{"config":{"webhook_config":{"secret":"s3\u0063ret","secret2":"x"}}}`: true,
		`{"config":{"webhook_config":{"secret":"s3cre"}}}`:                     false,
		`{"config":{"webhook_config":{"secret":"s3cret","secret":"s3cret"}}}`:  false,
		`{"config":{"webhook_config":{"secret":["s3cret"]}}}`:                  false,
		`{"config":{"webhook_config":{"secret":""}}}`:                          false,
		`{"secret":"s3cret"}`:                              false,
		`{"config":{"webhook_config":{"secret":"s3cret"}}`: false,
		`"s3cret"`: false,
		``:         false,
		strings.Repeat(`{"config":`, 100_000) + `1` + strings.Repeat(`}`, 100_000): false,
	} {
		run(t, inBody, []verification{{body[:min(len(body), 80)], relay.Callback{Body: []byte(body)}, ok}})
	}
	if !inBody.NeedsBody() || inBody.Headers() != nil {
		t.Error(inBody.NeedsBody(), inBody.Headers())
	}
	if query.NeedsBody() || header.NeedsBody() || !slices.Contains(query.Headers(), "X-Original-Url") || !slices.Equal(header.Headers(), []string{"x-token"}) {
		t.Error(query.Headers(), header.Headers())
	}
	for _, o := range []verifier.TokenOptions{
		{Query: "q"},
		{Secrets: []string{""}, Query: "q"},
		{Secrets: []string{"k"}},
		{Secrets: []string{"k"}, Query: "q", Header: "h"},
		{Secrets: []string{"k"}, Query: "q", Body: "b"},
		{Secrets: []string{"k"}, Header: "h", Body: "b"},
		{Secrets: []string{"k"}, Header: "h h"},
		{Secrets: []string{"k"}, Body: "@this"},
		{Secrets: []string{"k"}, Body: "a."},
	} {
		if _, err := verifier.Token(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// FuzzVerify passes to every verifier what a stranger may send; nothing of it is signed with a secret of theirs.
func FuzzVerify(f *testing.F) {
	const key = "a key that no fuzzer finds"
	ok := must(f)
	var all []relay.Verifier
	for _, encoding := range []string{"hex", "base64"} {
		for _, signed := range []string{"", "{header.Webhook-Id}{task_id}{timestamp}"} {
			all = append(all, ok(verifier.HMAC(verifier.HMACOptions{
				Secrets: []string{key}, Header: "Webhook-Signature",
				Encoding: encoding, Prefix: "v1,", Signed: signed, TimestampHeader: "Webhook-Timestamp",
			})))
		}
	}
	public, _ := newKey(f)
	all = append(all,
		newEd25519(f, verifier.Ed25519Options{
			Keys: []string{hex.EncodeToString(public)}, Header: "Webhook-Signature", Encoding: "base64url",
			Signed: `{timestamp}\n{body_sha256}`, TimestampHeader: "Webhook-Timestamp",
		}),
		ok(verifier.HMAC(verifier.HMACOptions{
			Secrets: []string{key}, Header: "Webhook-Signature", Algorithm: "sha1", Scheme: []string{"v1", "v2"}, Timestamp: "t",
		})),
		ok(verifier.Token(verifier.TokenOptions{Secrets: []string{key}, Body: "secret"})),
		ok(verifier.Kie([]string{key}, 0)),
		ok(verifier.StandardWebhooks([]string{base64.StdEncoding.EncodeToString([]byte(key))}, 0)),
		ok(verifier.Token(verifier.TokenOptions{Secrets: []string{key}, Query: "token"})),
		ok(verifier.Token(verifier.TokenOptions{Secrets: []string{key}, Header: "Webhook-Signature"})),
	)
	f.Add("id", stamp, "v1,"+hexMAC("k", "b"), []byte("b"), int64(0))
	f.Add("id", "-9223372036854775808", "v1, v1,= ,v1", []byte(nil), int64(-1<<62))
	f.Add("id", stamp, "t="+stamp+",v1="+hexMAC("k", stamp+".b"), []byte(`{"secret":"guess"}`), int64(1_700_000_000))
	f.Fuzz(func(t *testing.T, id, at, signature string, body []byte, seconds int64) {
		c := &relay.Callback{Body: body, TaskID: id, Now: time.Unix(seconds, 0), Query: url.Values{"token": {signature}}, Header: http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature},
			"X-Webhook-Timestamp": {at}, "X-Webhook-Signature": {signature},
		}}
		for _, v := range all {
			if signature != key && !strings.Contains(string(body), key) && v.Verify(c) == nil {
				t.Fatalf("%T passes", v)
			}
		}
	})
}

// FuzzTemplate compares any template that is allowed with plain replacement.
func FuzzTemplate(f *testing.F) {
	f.Add("v0:{timestamp}:{body}", "b", "task")
	f.Add("{header.X}{task_id}{", "{body}", "{timestamp}")
	f.Add(`{timestamp}\n{body_sha256}\\n\\\n}`, "b", "task")
	f.Fuzz(func(t *testing.T, signed, body, task string) {
		v, err := verifier.HMAC(verifier.HMACOptions{Secrets: []string{"k"}, Header: "S", Signed: signed, TimestampHeader: "T"})
		if err != nil || signed == "" || task == "" || strings.Contains(strings.ToLower(signed), "{header.") {
			return
		}
		message := strings.NewReplacer(
			"{timestamp}", stamp, "{body}", body, "{body_sha256}", fmt.Sprintf("%x", sha256.Sum256([]byte(body))),
			"{task_id}", task, `\n`, "\n", `\\`, `\`,
		).Replace(signed)
		if err := v.Verify(&relay.Callback{
			Body: []byte(body), TaskID: task, Now: now,
			Header: http.Header{"S": {hexMAC("k", message)}, "T": {stamp}},
		}); err != nil {
			t.Fatal(err)
		}
	})
}
