// The way from an address of loopback to the local messenger, for a plugin that takes no other address of
// a messenger's server: Discord's.
"use strict";

const { connect, createServer } = require("node:net");
const { pipeline } = require("node:stream");
const { isMainThread } = require("node:worker_threads");

// As chowder_local/messengers/discord.py has it.
const DISCORD_PORT = 2470;

function lead(near) {
  // OpenClaw sets it when it reads its configuration.
  const address = URL.parse(process.env.CHOWDER_DISCORD_URL);
  if (!address) {
    near.destroy();
    return;
  }
  // Whichever end hangs up, the other one learns it.
  pipeline(near, connect(address.port, address.hostname), near, () => {});
}

if (isMainThread && process.argv.includes("gateway")) {
  createServer(lead)
    .on("error", (error) => console.error(`messengers: no port for Discord: ${error.message}`))
    .listen(DISCORD_PORT, "127.0.0.1")
    .unref();
}
