// A destination of Caddy Relay in Node 20 or newer, without any package: it refuses what the gateway has not signed, and
// keeps each callback once, however often it arrives.
//
//   WEBHOOK_SECRET=whsec_… ADDRESS=127.0.0.1:9101 INBOX=inbox node consumer.mjs
//
// The gateway delivers at least once, and repeats with the same webhook-id what it cannot know to have arrived. Whoever
// keeps callbacks in a database writes the id in the transaction that does the work, in a column with a unique index. Here
// a file by that name takes the place of the row.
import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { link, mkdir, open, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";

const tolerance = 5 * 60; // seconds
const maxBody = 32 << 20;

const { WEBHOOK_SECRET = "", ADDRESS = "127.0.0.1:9101", INBOX = "inbox" } = process.env;
const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
if (key.length === 0) throw new Error("WEBHOOK_SECRET: expected whsec_ and base64, as in the gateway's `sign`");

// verify reports whether the signature is the gateway's, by the rules of https://www.standardwebhooks.com. It must see the
// body's bytes as they came, so with Express use express.raw({ type: "*/*" }) on this route instead of express.json().
function verify(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  const signatures = headers["webhook-signature"] ?? "";
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) return false;
  const want = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(" ").some((signature) => { // two, while a secret is being replaced
    const [version, encoded = ""] = signature.split(",");
    const got = Buffer.from(encoded, "base64");
    return version === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > maxBody) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function sync(path, flags, content) {
  const file = await open(path, flags);
  try {
    if (content) await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

// keep writes a callback to the inbox, and returns false if it is there already. A file gets its name only once it is
// complete, so that whoever works through the inbox never sees half a callback.
async function keep(id, body) {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) throw new Error(`webhook-id ${JSON.stringify(id)} is no name for a file`);
  const part = join(INBOX, `.part-${randomUUID()}`);
  try {
    await sync(part, "wx", body);
    await link(part, join(INBOX, `${id}.json`));
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(part, { force: true });
  }
  await sync(INBOX, "r");
  return true;
}

// answer returns a status: 2xx only once the callback is on disk, since from then on the gateway does not send it again.
async function answer(request) {
  if (request.method !== "POST") return 405;
  const body = await read(request);
  if (body === null) return 413;
  if (!verify(request.headers, body)) return 401;
  const id = request.headers["webhook-id"];
  const news = await keep(id, body);
  console.log(news ? `${id} of task ${request.headers["relay-task-id"]} is kept` : `${id} is here already`);
  return 204;
}

await mkdir(INBOX, { recursive: true, mode: 0o700 });
const server = createServer(async (request, response) => {
  try {
    response.writeHead(await answer(request)).end();
  } catch (error) {
    console.error(error.message);
    response.writeHead(503).end();
  }
});
// Longer than the gateway keeps an idle connection, so that the gateway is who closes it. Node's own is 5 seconds.
server.keepAliveTimeout = 120_000;
const [, host, port] = ADDRESS.match(/^(.*):(\d+)$/);
server.listen(Number(port), host);
