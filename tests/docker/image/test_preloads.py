"""What the image has Node load before OpenClaw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.engine.image_recipe import read_versions, recipe_dir
from tests.docker.image.inside import inside

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

BLANK_FILE = "/opt/openclaw/blank.sqlite"
VERSIONS = read_versions(recipe_dir())


def test_what_node_read_from_its_compile_cache_is_let_go_of_by_openclaw_only(
    container: Container,
) -> None:
    script = """
        cd /dev/shm
        echo 'setTimeout(() => {}, 7_000);' | tee openclaw.mjs > other.mjs
        export NODE_DEBUG_NATIVE=COMPILE_CACHE
        for name in openclaw other; do
            node /dev/shm/$name.mjs >$name.log 2>&1 &
        done
        wait
        for name in openclaw other; do
            grep -c 'Clear deserialized cache' $name.log || true
        done
    """
    cleared, left = map(int, inside(container, script).split())
    assert cleared > left


@pytest.mark.nightly
def test_a_long_timer_does_not_count_the_time_that_its_process_is_frozen(
    container: Container,
) -> None:
    # Timers of 10 s: after a freeze of 11 s, only what was left of them follows.
    script = """
        cd /dev/shm
        cat >timers.mjs <<'END'
import { setTimeout as sleep } from "node:timers/promises";
import { Worker, isMainThread } from "node:worker_threads";
const report = (name) => console.log(name, Date.now());
setTimeout(report, 10_000, "timeout");
const interval = setInterval(() => (report("interval"), clearInterval(interval)), 10_000);
sleep(10_000).then(() => report("promise"));
AbortSignal.timeout(10_000).onabort = () => report("signal");
const cleared = setTimeout(report, 10_000, "cleared");
clearTimeout(cleared);
if (isMainThread) new Worker("/dev/shm/timers.mjs");
END
        node timers.mjs >fired.log &
        sleep 1
        kill -STOP $!
        sleep 11
        kill -CONT $!
        date +%s%3N
        wait
        cat fired.log
    """
    thawed, *fired = inside(container, script).splitlines()
    assert sorted(line.split()[0] for line in fired) == sorted(
        ["timeout", "interval", "promise", "signal"] * 2
    )
    # Nothing was due at the thaw: some eight seconds of ten were left.
    assert all(int(line.split()[1]) - int(thawed) > 5_000 for line in fired)


@pytest.mark.nightly
def test_garbage_is_collected_when_a_request_asks_after_the_first_answer_and_a_silence(
    container: Container,
) -> None:
    script = """
        cd /dev/shm
        cat >garbage.mjs <<'END'
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
const usedMb = () => Math.round(process.memoryUsage().heapUsed / 2 ** 20);
const litter = () => Array.from({ length: 2_000_000 }, (_, n) => ({ n }));
const server = createServer((request, response) => {
  if (request.url === "/litter") litter();
  response.end(String(usedMb()));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const get = async (path, options) => {
  const url = `http://127.0.0.1:${server.address().port}${path}`;
  return Number(await (await fetch(url, options)).text());
};
const ask = async (...call) => console.log(await get(...call));
let left = 0;
// V8 may collect by itself now and then; a request that does not ask does not make it.
for (let n = 0; n < 5 && left <= 40; n += 1) {
  await get("/litter");
  left = await get("/");
}
console.log(left);
await ask("/", { headers: { "X-Chowder-Collect": "1" } });
for (const time of ["the first answer", "a silence"]) {
  await ask("/litter", { method: "POST" });
  const deadline = Date.now() + 60_000;
  while (usedMb() > 40 && Date.now() < deadline) await sleep(500);
  console.log(usedMb());
}
process.exit();
END
        node --no-memory-reducer --max-semi-space-size=2 garbage.mjs gateway
    """
    begun, asked, first, after_first, later, after_silence = map(
        int, inside(container, script).split()
    )
    assert min(begun, first, later) > 40
    assert max(asked, after_first, after_silence) < 40


def test_the_garbage_of_a_helper_process_is_collected_once_it_has_started(
    container: Container,
) -> None:
    script = """
        mkdir -p /dev/shm/openclaw/dist
        cat >/dev/shm/openclaw/dist/a.worker.js <<'END'
const usedMb = () => Math.round(process.memoryUsage().heapUsed / 2 ** 20);
Array.from({ length: 2_000_000 }, (_, n) => ({ n }));
console.log(usedMb());
const deadline = Date.now() + 60_000;
const looking = setInterval(() => {
  if (usedMb() > 40 && Date.now() < deadline) return;
  console.log(usedMb());
  clearInterval(looking);
}, 500);
END
        node --no-memory-reducer /dev/shm/openclaw/dist/a.worker.js
    """
    littered, collected = map(int, inside(container, script).split())
    assert littered > 40
    assert collected < 40


def test_a_collection_leaves_the_compile_cache_valid(container: Container) -> None:
    script = """
        cd /dev/shm
        cat >cached.mjs <<'END'
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { Script } from "node:vm";
const source = "(function () { return 1; })()";
if (process.argv.includes("compile")) {
  writeFileSync("code", new Script(source).createCachedData());
  process.exit();
}
const server = createServer((request, response) => response.end());
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const url = `http://127.0.0.1:${server.address().port}/`;
await (await fetch(url, { headers: { "X-Chowder-Collect": "1" } })).text();
console.log(new Script(source, { cachedData: readFileSync("code") }).cachedDataRejected);
process.exit();
END
        node cached.mjs gateway compile
        node cached.mjs gateway
    """
    assert inside(container, script).split() == ["false"]


def test_the_clock_of_every_program_is_that_of_the_record(
    client: docker.DockerClient, tag: str
) -> None:
    """Of an empty record, one of zeros, one that stands, and one that goes on from a day later."""
    script = r"""
        record() {
            python3 -c "import struct, sys
sys.stdout.buffer.write(struct.pack('<B15x4q16x', *map(int, sys.argv[1:])))" "$@" \
                >/data/.openclaw/chowder-clock
        }
        tell() {
            date +%s; python3 -c 'import time; print(int(time.time()))'
            node -p 'Math.trunc(Date.now() / 1000)'
        }
        unset NODE_OPTIONS
        mkdir /data/.openclaw
        : >/data/.openclaw/chowder-clock
        tell
        record 0 0 0 0 0; tell
        record 1 0 0 0 1000000000000000000; tell
        record 0 86400000000000 0 0 5; tell
    """
    output = client.containers.run(
        tag, ["-c", script], entrypoint="sh", remove=True, cap_drop=["ALL"], read_only=True,
        network_mode="none", tmpfs={"/data": "uid=1000"},
    )  # fmt: skip
    times = [int(each) for each in output.split()]
    machine, zeros, standing, moved = (times[at : at + 3] for at in range(0, 12, 3))
    assert standing == [1_000_000_000] * 3
    assert machine == sorted(machine)
    assert machine[-1] <= zeros[0] <= machine[-1] + 60
    assert 86_400 <= moved[0] - zeros[-1] <= 86_460
    assert moved == sorted(moved)


def test_the_gateway_alone_calls_the_local_messenger_in_place_of_hosts_that_nobody_can_set(
    container: Container,
) -> None:
    script = """
        export HOME=/dev/shm
        cd
        mkdir .openclaw
        cat >calls.mjs <<'END'
import { createHash } from "node:crypto";
import dns from "node:dns";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { get as getByHttps } from "node:https";
const { lookup } = dns;
dns.lookup = (host, ...rest) => lookup(host === "relay.local" ? "127.0.0.1" : host, ...rest);
let answerLate;
const server = createServer(({ method, url, socket }, response) => {
  if (url.endsWith("/reset")) socket.resetAndDestroy();
  else if (url.endsWith("/slow")) answerLate = () => response.end("late");
  else response.end(`${method} ${url}`);
});
server.on("upgrade", ({ url, headers }, socket) => {
  const key = `${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash("sha1").update(key).digest("base64");
  const first = "HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade";
  socket.write(`${first}\\r\\nSec-WebSocket-Accept: ${accept}\\r\\n\\r\\n`);
  socket.write(Buffer.concat([Buffer.from([0x81, url.length]), Buffer.from(url)]));
  socket.on("data", () => socket.destroy());
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const base = `http://relay.local:${server.address().port}/messengers`;
const config = "/dev/shm/.openclaw/openclaw.json";
const write = (channels) => writeFileSync(config, JSON.stringify({ channels }));
const isHere = (text) => (/^[A-Z]+ .messengers/.test(text) ? text : "elsewhere");
const call = async (url, method = "GET") => {
  try {
    const answer = await fetch(url, { method, signal: AbortSignal.timeout(5_000) });
    return isHere(await answer.text());
  } catch (error) {
    return error.name === "TimeoutError" && url.endsWith("/reset") ? "late" : "elsewhere";
  }
};
const byHttps = (url) =>
  new Promise((done) => {
    getByHttps(url, (answer) => answer.on("data", (text) => done(isHere(String(text)))));
  });
const converse = (url) =>
  new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onmessage = ({ data }) => {
      console.log(data);
      socket.send("bye");
    };
    socket.onerror = () => {};
    socket.onclose = () => done("closed");
  });
write({ line: { name: `${base}/line/one` } });
console.log(await call("https://api.line.me/v2/bot/message/push?a=b", "POST"));
if (process.argv.includes("gateway")) {
  console.log(await call("https://api.line.me/reset"));
  // Who asks leaves before the answer.
  const leaving = new AbortController();
  const left = fetch("https://api.line.me/slow", { signal: leaving.signal }).catch(() => {});
  while (!answerLate) await new Promise((done) => setTimeout(done, 10));
  leaving.abort();
  answerLate();
  await left;
}
write({ line: { name: `${base}/line/one`, enabled: false } });
console.log(await call("https://api.line.me/v2/bot/info"));
write({ msteams: { sso: { connectionName: `${base}/msteams/two` } } });
console.log(await call("https://api.line.me/v2/bot/info"));
const keys = "https://login.botframework.com/v1/keys";
if (process.argv.includes("gateway")) {
  console.log(await byHttps(keys));
  write({ discord: { name: `${base}/discord/three` } });
  console.log(await converse("wss://gateway.discord.gg/?v=10"));
}
process.exit();
END
        node calls.mjs gateway
        node calls.mjs other
    """
    assert inside(container, script).splitlines() == [
        "POST /messengers/line/one/api.line.me/v2/bot/message/push?a=b",
        *["elsewhere"] * 3,
        "GET /messengers/msteams/two/login.botframework.com/v1/keys",
        "/messengers/discord/three/gateway.discord.gg/?v=10",
        "closed",
        *["elsewhere"] * 3,
    ]
