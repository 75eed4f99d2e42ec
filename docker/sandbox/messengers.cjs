// The way from addresses of loopback to the local messenger, for plugins that take no other address of a
// messenger's server, or whose protocol is spoken here (messengers/whatsapp.mjs).
"use strict";

const { Worker, isMainThread } = require("node:worker_threads");

// As chowder_local/messengers/discord.py and whatsapp.py have them.
const DISCORD_PORT = 2470;
const WHATSAPP_PORT = 2471;
const WHATSAPP = "/opt/openclaw/whatsapp.mjs";
const MAX_WHATSAPP_MB = 64;

// OpenClaw sets it when it reads its configuration.
function findDiscord() {
  const { hostname, port } = new URL(process.env.CHOWDER_DISCORD_URL);
  return { host: hostname, port };
}

let whatsapp;
let connections = 0;

// A worker serves until the last connection to it ends.
async function findWhatsapp(near) {
  const { once } = require("node:events");
  whatsapp ??= new Worker(WHATSAPP, {
    resourceLimits: { maxOldGenerationSizeMb: MAX_WHATSAPP_MB },
  }).on("error", (error) => console.error(`messengers: WhatsApp's stand-in ended: ${error.message}`));
  const worker = whatsapp;
  connections += 1;
  near.once("close", () => {
    connections -= 1;
    if (connections > 0) return;
    whatsapp = undefined;
    worker.terminate();
  });
  worker.port ??= once(worker, "message").then(([port]) => port);
  return { host: "127.0.0.1", port: await worker.port };
}

function lead(port, find) {
  // Not in each of the gateway's dozen threads.
  const { connect, createServer } = require("node:net");
  const { pipeline } = require("node:stream");
  createServer(async (near) => {
    // One that hangs up before there is a way must not end the gateway.
    near.on("error", () => near.destroy());
    try {
      // Whichever end hangs up, the other one learns it.
      pipeline(near, connect(await find(near)), near, () => {});
    } catch (error) {
      console.error(`messengers: port ${port} leads nowhere: ${error.message}`);
      near.destroy();
    }
  })
    .on("error", (error) => console.error(`messengers: port ${port}: ${error.message}`))
    .listen(port, "127.0.0.1")
    .unref();
}

if (isMainThread && process.argv.includes("gateway")) {
  lead(DISCORD_PORT, findDiscord);
  lead(WHATSAPP_PORT, findWhatsapp);
}
