import { AbstractStartedContainer, GenericContainer } from "testcontainers";
import type { Client } from "./client.js";

/**
 * A server in a container that has the engine's socket. Its agents are containers beside it.
 *
 * `image` is the server image of this version by default, which `chowder-local` builds if the engine
 * lacks it. `withEnvironment` has settings of the server; models are offline unless CHOWDER_OFFLINE
 * is `false` in it. Other containers reach the server by the name `chowder-local`, or by its aliases
 * in a network.
 */
export class ChowderContainer extends GenericContainer {
  constructor(image?: string);
  /** Starts the server, and waits until agents can boot; the first start may take minutes. */
  start(): Promise<StartedChowderContainer>;
}

/** A healthy server. `stop`, or the end of this process, removes it with its agents and all data. */
export class StartedChowderContainer extends AbstractStartedContainer {
  /** The URL of the API, with /v1. */
  readonly baseUrl: string;
  /** The key of the default organization, which may have any number of instances. */
  readonly key: string;
  /** A client with `key`. */
  client(): Client;
}
