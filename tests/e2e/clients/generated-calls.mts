// Ten calls with the types that openapi-typescript makes, as people write them.
import createClient from "openapi-fetch";
import type { components, paths } from "./chowder.js";

// What of Node it needs, so that its types need not be there.
declare const process: { env: Record<string, string | undefined> };
type Instance = components["schemas"]["InstanceView"];

const { CHOWDER_URL: baseUrl, CHOWDER_KEY: key, INSTANCE_ID: shared = "" } = process.env;
const path = "workspace/generated-typescript.md";

function clientOf(token?: string) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return createClient<paths, "application/json">({ baseUrl, headers });
}

function given<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const signedUp = given(await clientOf().POST("/v1/organization/signup", { body: { name: "generated" } }));
const own = clientOf(signedUp.api_key);
let created: Instance = given(await own.POST("/v1/instances", { body: { name: "no-model-key" } }));
while (created.status === "provisioning") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  const params = { path: { instance_id: created.id } };
  created = given(await own.GET("/v1/instances/{instance_id}", { params }));
}

const client = clientOf(key);
const instances = given(await client.GET("/v1/instances"));
const answer = given(
  await client.POST("/v1/instances/{instance_id}/session/{session_id}/responses", {
    params: { path: { instance_id: shared, session_id: "generated-typescript" } },
    body: { model: "gpt-4o", input: "Hello from TypeScript." },
  }),
);
const texts: string[] = [];
for (const item of answer.output) {
  if (item.type !== "message") continue;
  for (const part of item.content) texts.push(part.type === "output_text" ? part.text : part.refusal);
}
const agent = { instance_id: shared };
await client.PUT("/v1/instances/{instance_id}/files/content", {
  params: { path: agent },
  body: { path, content: "# Notes\n" },
});
const file = given(
  await client.GET("/v1/instances/{instance_id}/files/content", { params: { path: agent, query: { path } } }),
);
const folder = given(
  await client.GET("/v1/instances/{instance_id}/files", {
    params: { path: agent, query: { path: "workspace" } },
  }),
);
const made = given(
  await client.POST("/v1/keys", {
    body: { name: "generated", instance_ids: [shared], permissions: ["read"] },
  }),
);
const keys = given(await client.GET("/v1/keys"));

console.log(
  JSON.stringify({
    status: created.status,
    error: created.error_message,
    instances: instances.map((each) => each.id),
    texts,
    tokens: answer.usage?.total_tokens,
    content: file.content,
    files: folder.entries.map((each) => each.path),
    keys: keys.map((each) => each.key_prefix).filter((prefix) => made.raw_key.startsWith(prefix)),
  }),
);
