#!/bin/sh
# standardwebhooks 1.1.1 for Node: a valid signature over a body that is not text is refused.
#
# Expected: Standard Webhooks signs id, time and the body as it was sent, whatever that is, and verify takes a Buffer. So it
#           accepts what its sister for Go (v0.0.1) accepts: the signature of an HMAC over the bytes that arrived.
# Actual:   verify decodes a Buffer as UTF-8 before it computes the signature. A byte sequence that is no UTF-8 becomes
#           another one, and the signature does not match: any compressed or binary body is refused as forged. So it is by
#           svix 2.5.0, which builds on it. And unless jsonParse is false, a body that was verified and is no JSON, such as a
#           form, throws a SyntaxError, which is no WebhookVerificationError.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// It reads what the script for Node has tried, and prints what Go says of the same.
func main() {
	var tried []struct {
		Name    string
		Body    []byte
		Headers map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&tried); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	webhook, err := standardwebhooks.NewWebhook(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, t := range tried {
		header := http.Header{}
		for name, value := range t.Headers {
			header.Set(name, value)
		}
		err := webhook.Verify(t.Body, header)
		fmt.Printf("Go, %s: %t\n", t.Name, err == nil)
	}
}
GO
cat >main.mjs <<'JS'
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Webhook } from "standardwebhooks";
import { Webhook as Svix } from "svix";

const secret = process.argv[2];
const key = Buffer.from(secret.slice("whsec_".length), "base64");
const bodies = { JSON: Buffer.from('{"state":"done"}'), form: Buffer.from("state=done"), gzip: gzipSync('{"state":"done"}') };
const tried = [];
for (const [name, body] of Object.entries(bodies)) {
  const id = "msg_1";
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
  tried.push({ Name: name, Body: body.toString("base64"), Headers: headers });
  const verifiers = {
    Node: () => new Webhook(secret).verify(body, headers),
    "Node without JSON": () => new Webhook(secret).verify(body, headers, { jsonParse: false }),
    svix: () => new Svix(secret).verify(body, headers),
  };
  for (const [verifier, verify] of Object.entries(verifiers)) {
    let outcome = "true";
    try {
      verify();
    } catch (error) {
      outcome = error.constructor.name;
    }
    console.log(`${verifier}, ${name}: ${outcome}`);
  }
}
writeFileSync("tried.json", JSON.stringify(tried));
JS
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/standard-webhooks/standard-webhooks/libraries@v0.0.1 2>go.log || { echo "Standard Webhooks for Go 0.0.1 cannot be downloaded" >&2; exit 2; }
go build -o finding . || exit 2
npm install --ignore-scripts --no-audit --no-fund standardwebhooks@1.1.1 svix@2.5.0 >npm.log 2>&1 ||
	{ echo "standardwebhooks 1.1.1 and svix 2.5.0 cannot be downloaded" >&2; exit 2; }

echo "standardwebhooks 1.1.1 and svix 2.5.0 for Node, standard-webhooks/libraries v0.0.1 for Go"
echo "expected: true everywhere: each body has a valid signature"
echo "actual:   Node refuses the compressed body, and throws another error at the form"
secret=whsec_$(printf 0123456789abcdef0123456789abcdef | base64)
{ node main.mjs "$secret" && ./finding "$secret" <tried.json; } >saw || { cat saw; exit 2; }
sed 's/^/saw: /' saw
cat >found <<'FOUND'
Node, JSON: true
Node without JSON, JSON: true
svix, JSON: true
Node, form: SyntaxError
Node without JSON, form: true
svix, form: true
Node, gzip: WebhookVerificationError
Node without JSON, gzip: WebhookVerificationError
svix, gzip: WebhookVerificationError
Go, JSON: true
Go, form: true
Go, gzip: true
FOUND
cmp -s saw found || { echo "CHANGED: this is not what was found"; exit 1; }
