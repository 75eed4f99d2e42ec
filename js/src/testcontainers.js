// A testcontainers class for the server, which removes its agents when it stops.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  AbstractStartedContainer,
  GenericContainer,
  IntervalRetry,
  StartupCheckStrategy,
  getContainerRuntimeClient,
} from "testcontainers";
import { ChowderError, Client } from "./client.js";
import { chowderLocal } from "./command.js";
import {
  keyOf,
  logTail,
  removeServer,
  removeServerOf,
  removeStore,
  runLabel,
  storeIdOf,
} from "./server-container.js";

const PORT = 2469;
const SOCKET = "/var/run/docker.sock";
const LOOPBACK = ["localhost", "127.0.0.1"];
// A first start builds the sandbox image in this time.
const STARTUP_TIMEOUT_MS = 900_000;
const POLL_INTERVAL_MS = 200;
const CALL_TIMEOUT_MS = 10_000;

/** A server in a container that has the engine's socket. Its agents are containers beside it. */
export class ChowderContainer extends GenericContainer {
  #isOurs;

  constructor(image) {
    super(image ?? serverTag());
    this.#isOurs = image === undefined;
    // As in compose.yaml: enough to switch to an unprivileged user, and to stop that process.
    this.withDroppedCapabilities("ALL").withAddedCapabilities("CHOWN", "KILL", "SETGID", "SETUID");
    this.withSecurityOpt("no-new-privileges");
    this.hostConfig.Init = true;
    this.withExposedPorts(PORT).withWaitStrategy(new AgentsCanBoot());
    // Testcontainers' reaper would leave the agents, and its image may have to be pulled.
    this.withAutoCleanup(false);
  }

  async start() {
    if (this.#isOurs) await buildIfMissing(this.imageName);
    const run = randomUUID();
    this.withLabels(runLabel(run));
    const reaper = startReaper(run);
    try {
      const started = await super.start();
      const { dockerode } = (await getContainerRuntimeClient()).container;
      const container = dockerode.getContainer(started.getId());
      const [storeId, key] = await Promise.all([storeIdOf(container), keyOf(container)]);
      return new StartedChowderContainer(started, { storeId, key, reaper });
    } catch (failure) {
      await removeServerOf(run);
      reaper.kill();
      throw failure;
    }
  }

  async beforeContainerCreated() {
    if ("CHOWDER_DATA_DIR" in this.environment) {
      throw new ChowderError("The agents of a server with CHOWDER_DATA_DIR would not be found. Unset it.");
    }
    const { host, remoteSocketPath } = (await getContainerRuntimeClient()).info.containerRuntime;
    const source = socketPath(remoteSocketPath);
    this.hostConfig.Mounts = [{ Type: "bind", Source: source, Target: SOCKET }];
    const isLocal = LOOPBACK.includes(host);
    // On another address than the loopback, other machines would reach the server.
    for (const binding of this.hostConfig.PortBindings[`${PORT}/tcp`]) {
      binding.HostIp = isLocal ? "127.0.0.1" : "";
    }
    const names = ["chowder-local", ...this.networkAliases, ...(isLocal ? [] : [host])];
    const defaults = { CHOWDER_OFFLINE: "true", CHOWDER_ALLOWED_HOSTS: names.join(",") };
    const environment = { ...defaults, ...this.environment };
    this.createOpts.Env = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  }
}

/** A server that is healthy; it and its agents are removed by `stop`, or when this process ends. */
export class StartedChowderContainer extends AbstractStartedContainer {
  #storeId;
  #key;
  #reaper;

  constructor(started, { storeId, key, reaper }) {
    super(started);
    this.#storeId = storeId;
    this.#key = key;
    this.#reaper = reaper;
  }

  get baseUrl() {
    return `http://${this.getHost()}:${this.getMappedPort(PORT)}/v1`;
  }

  get key() {
    if (!this.#key) {
      throw new ChowderError("The server has no default.key, because CHOWDER_KEY_FILE is set. Unset it.");
    }
    return this.#key;
  }

  client() {
    return new Client({ baseUrl: this.baseUrl, key: this.key });
  }

  async stop(options) {
    let stopped;
    try {
      stopped = await super.stop({ ...options, remove: true, removeVolumes: true });
    } finally {
      // Also if somebody else has removed the server, which the reaper would no longer find.
      await removeStore(this.#storeId);
    }
    this.#reaper.kill();
    return stopped;
  }
}

/** Waits until the server is healthy: it listens before the image of its agents is built. */
class AgentsCanBoot extends StartupCheckStrategy {
  constructor() {
    super();
    this.withStartupTimeout(STARTUP_TIMEOUT_MS);
  }

  async waitUntilReady(container, ports) {
    const { host } = (await getContainerRuntimeClient()).info.containerRuntime;
    const client = new Client({ baseUrl: `http://${host}:${ports.getBinding(PORT)}`, key: "" });
    const isHealthy = async () => {
      const { Status } = (await container.inspect()).State;
      if (!["created", "running"].includes(Status)) throw new Error("The server has ended.");
      try {
        const health = await client.call("getHealth", { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
        return health.status === "ok";
      } catch (failure) {
        if (failure instanceof ChowderError || failure.name === "TimeoutError") return false;
        throw failure;
      }
    };
    const late = () => {
      throw new Error("No agent can boot.");
    };
    try {
      const retry = new IntervalRetry(POLL_INTERVAL_MS);
      await retry.retryUntil(isHealthy, (result) => result, late, this.getStartupTimeout());
    } catch (failure) {
      failure.message += ` The end of the server's log:\n${await logTail(container)}`;
      // Testcontainers removes the container, after which nobody knows its agents.
      await removeServer(container);
      throw failure;
    }
  }
}

function serverTag() {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url)));
  return `chowder-local/server:${version}`;
}

async function buildIfMissing(image) {
  const { image: images } = await getContainerRuntimeClient();
  if (await images.exists(image)) return;
  const tag = await chowderLocal(["image", "build", "--server"], {
    failed: "The server image was not built",
    absent: `The engine has no image ${image.string}, and there is no chowder-local to build it. Install it, or name another image.`,
  });
  if (tag.trim() !== image.string) {
    throw new ChowderError(`chowder-local has built ${tag.trim()} instead of ${image.string}. Install the same versions.`);
  }
}

/** The path of the engine's socket on the engine's own machine, which may be a virtual one. */
function socketPath(path) {
  if (process.env.TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE) return path;
  return process.platform !== "linux" || path.includes("/.") ? SOCKET : path;
}

/** A process that removes the server when this one ends, however it does; `kill` calls it off. */
function startReaper(run) {
  const program = fileURLToPath(new URL("./reaper.js", import.meta.url));
  const reaper = spawn(process.execPath, [program, run], {
    // It outlives a signal to the process group, and needs nothing that is for the tests.
    detached: true,
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["pipe", "ignore", "ignore"],
  });
  reaper.unref();
  reaper.stdin.unref();
  return reaper;
}
