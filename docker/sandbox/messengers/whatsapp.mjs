// WhatsApp's server for one agent, in a worker of its gateway (divert.cjs): crabline speaks WhatsApp's
// encrypted protocol with OpenClaw's plugin; what is said goes to and comes from the local messenger.
import { readFile, readdir, rm } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { parentPort, workerData as messenger } from "node:worker_threads";
// Of what startCrablineServer starts, the one that is needed here.
import { startWhatsAppServer } from "../flatten/node_modules/@openclaw/crabline/dist/src/servers/whatsapp.js";

// As chowder_local/messengers/whatsapp.py has them.
const FOLDER = "/data/.openclaw/credentials/whatsapp-local";
const SELF = "15550100100@s.whatsapp.net";
const RETRY_MS = 1_000;

const { advSecretKey: token } = JSON.parse(await readFile(`${FOLDER}/creds.json`, "utf8"));

async function call(path, event) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const request = event && { method: "POST", body: JSON.stringify(event) };
  const answer = await fetch(`${messenger}/${path}`, { headers, ...request });
  if (!answer.ok) throw new Error(`the local messenger answers ${answer.status}`);
  return answer.json();
}

async function patiently(path, event) {
  for (;;) {
    try {
      return await call(path, event);
    } catch (error) {
      // Without an answer, the server has been stopped, and comes back.
      if (!(error instanceof TypeError)) throw error;
      await setTimeout(RETRY_MS);
    }
  }
}

const { promise: listens, resolve: hasAsked } = Promise.withResolvers();

// Of all that the plugin sends, messages, receipts and that it types are passed on.
async function onEvent({ accepted, body }) {
  // For its groups it asks as soon as it listens: what came before would be lost.
  if (body?.attrs?.xmlns === "w:g2") hasAsked();
  if (accepted || ["chatstate", "receipt"].includes(body?.tag)) await patiently("events", body);
}

async function deliver({ adminToken, endpoints }) {
  const headers = { authorization: `Bearer ${adminToken}`, "content-type": "application/json" };
  await listens;
  let after = 0;
  for (;;) {
    const { messages } = await patiently(`messages?after=${after}`);
    for (const { number, ...message } of messages) {
      const request = { method: "POST", headers, body: JSON.stringify(message) };
      const answer = await fetch(endpoints.adminInboundUrl, request);
      // A message that is delivered twice on purpose comes once: crabline knows its id.
      if (!answer.ok) console.error(`whatsapp: crabline answers ${answer.status}`);
      after = number;
    }
  }
}

// People have new keys, so that what the plugin has agreed on with their former ones is void.
for (const name of await readdir(FOLDER)) {
  if (name.startsWith("session-")) await rm(`${FOLDER}/${name}`);
}
const { manifest } = await startWhatsAppServer({
  accessToken: "local",
  onEvent,
  selfJid: SELF,
});
parentPort.postMessage(new URL(manifest.baseUrl).port);
await deliver(manifest);
