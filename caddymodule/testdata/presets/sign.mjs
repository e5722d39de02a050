// Reads callbacks from standard input and prints for each, as JSON, the headers and the query with which its sender proves
// who it is, as that sender documents it. An Ed25519 key pair is made at each run; its public key is printed too.
import { createHash, createHmac, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const hmac = (secret, message, encoding) => createHmac("sha256", secret).update(message).digest(encoding);
const listed = (name, scheme) => (c) => ({ [name]: `t=${c.at},${scheme}=${hmac(c.secret, `${c.at}.${c.body}`, "hex")}` });

const senders = {
  kie: (c) => ({ "X-Webhook-Timestamp": `${c.at}`, "X-Webhook-Signature": hmac(c.secret, `${JSON.parse(c.body).data.taskId}.${c.at}`, "base64") }),
  replicate: (c) => {
    const key = Buffer.from(c.secret.replace("whsec_", ""), "base64");
    return {
      "webhook-id": c.message,
      "webhook-timestamp": `${c.at}`,
      "webhook-signature": "v1," + hmac(key, `${c.message}.${c.at}.${c.body}`, "base64"),
    };
  },
  fal: (c) => {
    const key = c.secret === "s3cret" ? privateKey : generateKeyPairSync("ed25519").privateKey;
    const sum = createHash("sha256").update(c.body).digest("hex");
    return {
      "X-Fal-Webhook-Request-Id": c.message,
      "X-Fal-Webhook-User-Id": "user-1",
      "X-Fal-Webhook-Timestamp": `${c.at}`,
      "X-Fal-Webhook-Signature": sign(null, Buffer.from([c.message, "user-1", c.at, sum].join("\n")), key).toString("hex"),
    };
  },
  elevenlabs: listed("ElevenLabs-Signature", "v0"),
  mux: listed("Mux-Signature", "v1"),
  stripe: listed("Stripe-Signature", "v1"),
  github: (c) => ({ "X-GitHub-Delivery": c.message, "X-Hub-Signature-256": "sha256=" + hmac(c.secret, c.body, "hex") }),
  shopify: (c) => ({ "X-Shopify-Webhook-Id": c.message, "X-Shopify-Hmac-Sha256": hmac(c.secret, c.body, "base64") }),
  assemblyai: (c) => ({ Authorization: c.secret }),
  piapi: (c) => ({ "x-webhook-secret": c.secret }),
};
const queries = { runpod: (c) => `token=${c.secret}`, luma: (c) => `token=${c.secret}` };

const callbacks = JSON.parse(readFileSync(0, "utf8"));
console.log(
  JSON.stringify({
    key: Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url").toString("hex"),
    proofs: callbacks.map((c) => ({ headers: senders[c.sender]?.(c) ?? {}, query: queries[c.sender]?.(c) ?? "" })),
  }),
);
