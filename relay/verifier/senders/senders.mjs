// Prints one callback of each sender as JSON, signed by the sender's own library where that signs, and else by Node's
// crypto as the sender documents it. Where a library verifies, it has accepted the callback.
import { createHash, createHmac, generateKeyPairSync, sign } from "node:crypto";
import Mux from "@mux/mux-node";
import * as github from "@octokit/webhooks-methods";
import * as standard from "standardwebhooks";
import Stripe from "stripe";
import * as svix from "svix";

const now = Math.floor(Date.now() / 1000);
const secret = "s3cret";
const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const body = JSON.stringify({ id: "evt_1", text: "žluťoučký\n\u2028 {body}", data: { object: [1, 2.5, null] } });
const hmac = (algorithm, encoding, message) => createHmac(algorithm, secret).update(message).digest(encoding);

const senders = {};

const stripe = new Stripe("sk_test_unused");
const stripeHeader = (secret) => stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: now });
senders.stripe = { "Stripe-Signature": stripeHeader(secret) };
stripe.webhooks.constructEvent(body, senders.stripe["Stripe-Signature"], secret);
// While a secret is rolled, Stripe signs with both.
senders["stripe, rolling"] = {
  "Stripe-Signature": [stripeHeader("newer"), ...stripeHeader(secret).split(",").slice(1)].join(","),
};
stripe.webhooks.constructEvent(body, senders["stripe, rolling"]["Stripe-Signature"], secret);

senders.github = { "X-Hub-Signature-256": await github.sign(secret, body) };
senders["github, sha1"] = { "X-Hub-Signature": "sha1=" + hmac("sha1", "hex", body) };

const webhook = (id, signature) => ({ "webhook-id": id, "webhook-timestamp": `${now}`, "webhook-signature": signature });
senders.standardwebhooks = webhook("msg_1", new standard.Webhook(whsec).sign("msg_1", new Date(now * 1000), body));
new standard.Webhook(whsec).verify(body, senders.standardwebhooks);
senders.svix = webhook("msg_2", new svix.Webhook(whsec).sign("msg_2", new Date(now * 1000), body));
new svix.Webhook(whsec).verify(body, senders.svix);

senders.mux = { "Mux-Signature": `t=${now},v1=${hmac("sha256", "hex", `${now}.${body}`)}` };
await new Mux({ tokenId: "unused", tokenSecret: "unused" }).webhooks.verifySignature(body, senders.mux, secret);

senders.elevenlabs = { "ElevenLabs-Signature": `t=${now},v0=${hmac("sha256", "hex", `${now}.${body}`)}` };
senders.shopify = { "X-Shopify-Hmac-Sha256": hmac("sha256", "base64", body) };
senders.slack = { "X-Slack-Signature": "v0=" + hmac("sha256", "hex", `v0:${now}:${body}`), "X-Slack-Request-Timestamp": `${now}` };
senders.kie = { "X-Webhook-Signature": hmac("sha256", "base64", `task-1.${now}`), "X-Webhook-Timestamp": `${now}` };
senders["sha512, base64url"] = { "X-Signature": hmac("sha512", "base64url", body) };

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const jwk = publicKey.export({ format: "jwk" });
const ed25519 = (message) => sign(null, Buffer.from(message), privateKey).toString("hex");
const sum = createHash("sha256").update(body).digest("hex");
senders.fal = {
  "X-Fal-Webhook-Request-Id": "request-1",
  "X-Fal-Webhook-User-Id": "user-1",
  "X-Fal-Webhook-Timestamp": `${now}`,
  "X-Fal-Webhook-Signature": ed25519(["request-1", "user-1", now, sum].join("\n")),
};
senders.discord = { "X-Signature-Ed25519": ed25519(`${now}${body}`), "X-Signature-Timestamp": `${now}` };

console.log(JSON.stringify({ now, body, senders, key: Buffer.from(jwk.x, "base64url").toString("hex"), jwks: { keys: [jwk] } }));
