// A server in a container on the engine: its files, its log, and its removal with its agents.
import { getContainerRuntimeClient } from "testcontainers";

const RUN_LABEL = "dev.chowder-local.test-server";
const STORE_LABEL = "dev.chowder-local.store";
const STORE_FILE = "/data/store.id";
const KEY_FILE = "/data/default.key";
const LOG_LINES = 20;
const NOT_FOUND = 404;
const BLOCK_BYTES = 512;
const REGULAR_FILE = "0".charCodeAt(0);

/** The id in the labels of all that the server has on the engine; undefined before it has any. */
export const storeIdOf = (container) => readFile(container, STORE_FILE);

/** The key of the default organization; undefined if it is kept elsewhere. */
export const keyOf = (container) => readFile(container, KEY_FILE);

/** The end of the server's log. */
export async function logTail(container) {
  const { Config } = await container.inspect();
  const log = await container.logs({ stdout: true, stderr: true, tail: LOG_LINES });
  return Config.Tty ? log.toString() : withoutFrames(log);
}

/** The label by which the server of one start is found, also when nobody knows its container yet. */
export const runLabel = (run) => ({ [RUN_LABEL]: run });

/** Removes the server that one start made, if there is one. */
export async function removeServerOf(run) {
  const { dockerode } = (await getContainerRuntimeClient()).container;
  const filters = { label: [`${RUN_LABEL}=${run}`] };
  for (const { Id } of await dockerode.listContainers({ all: true, filters })) {
    await removeServer(dockerode.getContainer(Id));
  }
}

/** Removes a server, its data and its agents; it may be gone. */
export async function removeServer(container) {
  const storeId = await storeIdOf(container);
  // First, because a server would make anew what it misses.
  await unlessGone(container.remove({ force: true, v: true }));
  if (storeId) await removeStore(storeId);
}

/** Removes each container, volume and network that has the label of the store. */
export async function removeStore(storeId) {
  if (!storeId) throw new TypeError("an empty store id would match resources of other programs");
  const { dockerode } = (await getContainerRuntimeClient()).container;
  const filters = { label: [`${STORE_LABEL}=${storeId}`] };
  const ours = (all) => (all ?? []).filter(({ Labels }) => Labels?.[STORE_LABEL] === storeId);
  const removed = (removals) => Promise.all(removals.map(unlessGone));
  const containers = ours(await dockerode.listContainers({ all: true, filters }));
  await removed(containers.map(({ Id }) => dockerode.getContainer(Id).remove({ force: true, v: true })));
  const volumes = ours((await dockerode.listVolumes({ filters })).Volumes);
  await removed(volumes.map(({ Name }) => dockerode.getVolume(Name).remove({ force: true })));
  const networks = ours(await dockerode.listNetworks({ filters }));
  await removed(networks.map(({ Id }) => dockerode.getNetwork(Id).remove()));
}

/** The text of a container's file, trimmed; undefined if there is no such file or container. */
async function readFile(container, path) {
  const stream = await unlessGone(container.getArchive({ path }));
  if (!stream) return undefined;
  const tar = Buffer.concat(await stream.toArray());
  for (let start = 0; start < tar.length; ) {
    const sizeBytes = parseInt(tar.toString("ascii", start + 124, start + 136), 8) || 0;
    const content = start + BLOCK_BYTES;
    if (tar[start + 156] === REGULAR_FILE) return tar.toString("utf8", content, content + sizeBytes).trim();
    // Attributes that do not fit into a header come before it, in an entry of their own.
    start = content + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
  }
  return undefined;
}

async function unlessGone(call) {
  try {
    return await call;
  } catch (failure) {
    if (failure.statusCode === NOT_FOUND) return undefined;
    throw failure;
  }
}

/** A log without the eight bytes that the engine puts before each piece of it. */
function withoutFrames(log) {
  const pieces = [];
  for (let start = 0; start < log.length; ) {
    const end = start + 8 + log.readUInt32BE(start + 4);
    pieces.push(log.subarray(start + 8, end));
    start = end;
  }
  return Buffer.concat(pieces).toString();
}
