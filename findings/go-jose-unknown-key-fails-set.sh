#!/bin/sh
# go-jose v4.1.9: one key of a kind that it does not know makes a whole JWK Set unreadable.
#
# Expected: RFC 7517 section 5 has implementations ignore the keys of a set whose type they do not understand, so that a sender can
#           publish a new kind of key beside the old one. jose 6.2.18 for Node finds the Ed25519 key in each of the sets below.
# Actual:   json.Unmarshal into a jose.JSONWebKeySet returns an error at the first such key, and the keys behind it are missing.
#           That concerns registered kinds, too: Ed448 and X25519 (RFC 8037) and secp256k1 (RFC 8812). Who decodes the list
#           key by key, and passes over errors, is not concerned.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >sets.json <<'JSON'
[
  {"name": "Ed448", "key": {"kty": "OKP", "crv": "Ed448", "x": "X9dEm1m0Yf0s54fsYWrUah2hNCSFpw4fig6nXYDpZ3jt8SR2m0bHBhvWeD3x5Q9s0foavq_oJWGA"}},
  {"name": "X25519", "key": {"kty": "OKP", "crv": "X25519", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}},
  {"name": "secp256k1", "key": {"kty": "EC", "crv": "secp256k1", "x": "WKn-ZIGevcwGIyyrzFoZNBdaq9_TsqzGl96oc0CWuis", "y": "y77t-RvAHRKTsSGdIYUfweuOvwrvDD-Q3Hv5J0fSKbE"}},
  {"name": "a kind of tomorrow", "key": {"kty": "XYZ", "k": "AAAA"}}
]
JSON
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

const known = `{"kty":"OKP","crv":"Ed25519","kid":"known","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

func main() {
	var sets []struct {
		Name string
		Key  json.RawMessage
	}
	if err := json.NewDecoder(os.Stdin).Decode(&sets); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, s := range sets {
		var set jose.JSONWebKeySet
		err := json.Unmarshal([]byte(`{"keys":[`+string(s.Key)+`,`+known+`]}`), &set)
		fmt.Printf("go-jose, beside %s: read %t, found %t\n", s.Name, err == nil, len(set.Key("known")) == 1)
	}
}
GO
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { createLocalJWKSet } from "jose";

const known = { kty: "OKP", crv: "Ed25519", kid: "known", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
for (const { name, key } of JSON.parse(readFileSync("sets.json", "utf8"))) {
  let found = false;
  try {
    found = Boolean(await createLocalJWKSet({ keys: [key, known] })({ alg: "EdDSA", kid: "known" }));
  } catch {
    // it is not found
  }
  console.log(`jose for Node, beside ${name}: found ${found}`);
}
JS
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/go-jose/go-jose/v4@v4.1.9 2>go.log || { echo "go-jose 4.1.9 cannot be downloaded" >&2; exit 2; }
go build -o finding . || exit 2
npm install --ignore-scripts --no-audit --no-fund jose@6.2.18 >npm.log 2>&1 || { echo "jose 6.2.188 cannot be downloaded" >&2; exit 2; }

echo "go-jose v4.1.9, jose 6.2.188 for Node: a set of two keys, of which the second is of Ed25519"
echo "expected: read true, found true"
echo "actual:   go-jose reads none of the sets"
{ ./finding <sets.json && node main.mjs; } >saw || { cat saw; exit 2; }
sed 's/^/saw: /' saw
cat >found <<'FOUND'
go-jose, beside Ed448: read false, found false
go-jose, beside X25519: read false, found false
go-jose, beside secp256k1: read false, found false
go-jose, beside a kind of tomorrow: read false, found false
jose for Node, beside Ed448: found true
jose for Node, beside X25519: found true
jose for Node, beside secp256k1: found true
jose for Node, beside a kind of tomorrow: found true
FOUND
cmp -s saw found || { echo "CHANGED: this is not what was found"; exit 1; }
