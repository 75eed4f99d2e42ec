// Removes a server in a container when the process that started this one has ended in any way: that
// process holds the other end of the standard input.
import { once } from "node:events";

process.stdin.resume();
await once(process.stdin, "end");
// Not before, because it takes memory.
const { removeServerOf } = await import("./server-container.js");
await removeServerOf(process.argv[2]);
process.exit();
