// What the compiler must accept and refuse; it is never run.
import { Client, textOf } from "chowder-local";
import { agents } from "chowder-local/test";
import { ChowderContainer } from "chowder-local/testcontainers";
declare const before: (body: () => Promise<void>, options?: object) => void;
declare const after: typeof before;

const client = new Client();
const { id, status } = await client.call("createInstance", { body: { name: "a" } });
const running: "running" | string = status;
const answer = await client.respond(id, "Hi", { session: "b" });
const text: string = textOf(answer);
const nothing: undefined = await client.call("deleteInstance", { path: { instance_id: id } });
for (const each of await client.call("listInstances")) each.name.toUpperCase();
const log: string = await client.call("readLogs", { path: { instance_id: id }, query: { tail: 5 } });
// @ts-expect-error: the path is missing
await client.call("getInstance");
// @ts-expect-error: there is no such operation
await client.call("makeTea");
// @ts-expect-error: the body's name is missing
await client.call("createInstance", { body: {} });
const chowder = agents({ before, after });
const agent = await chowder.instance("c", { model_provider: "openai" });
await chowder.faults("message", { status: 429, retry_after_s: 2 });
// @ts-expect-error: there is no such kind of fault
await chowder.faults("mesage");
const { desk } = await chowder.seed(new URL("seed.yaml", import.meta.url));
await desk.restore(await chowder.snapshot(desk));
await chowder.recording("recordings/greeting");
const said: string = await agent.say("Hi");
const telegram = await agent.messenger("telegram");
const heard: string = (await telegram.group("Team").approve().say("Hi", { thread: "Plans" })).answer;
const first: number | undefined = (await telegram.messages())[0]?.id;
// @ts-expect-error: a text is needed
await telegram.waitFor();
const container = new ChowderContainer().withEnvironment({ CHOWDER_WARM_POOL_SIZE: "0" });
agents({ before, after, server: () => container.start() });
await using server = await container.start();
const organization: string | undefined = (await server.client().call("getOrganization")).name;
// @ts-expect-error: a server that has not started has no key
container.key;
export { said, heard, first, running, text, nothing, log, organization };
