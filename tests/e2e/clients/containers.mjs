// Two servers in containers, with an agent each: one is stopped, and the other is there until this ends.
import { ChowderContainer } from "chowder-local/testcontainers";

const { CHOWDER_IMAGE } = process.env;

async function served() {
  const settings = { CHOWDER_IMAGE, CHOWDER_WARM_POOL_SIZE: "0" };
  const server = await new ChowderContainer().withEnvironment(settings).start();
  const client = server.client();
  const { id } = await client.call("createInstance", { body: { name: "mine" } });
  const { sandbox_id: sandbox } = await client.waitUntilRunning(id);
  console.log(JSON.stringify({ server: server.getName().slice(1), sandbox }));
  return server;
}

await (await served()).stop();
await served();
setInterval(() => {}, 60_000);
