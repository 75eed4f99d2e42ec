"""The built image, looked at from the engine and from inside."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.sandboxes import ImageBuildFailed, ImageKept, ImageUnknown
from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag, read_versions, recipe_dir
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.schema import SCHEMA_FILE, find_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

ENV = dict(os.environ)
BLANK_FILE = "/opt/openclaw/blank.sqlite"
VERSIONS = read_versions(recipe_dir())


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = open_client(find_engine(ENV))
    yield client
    client.close()


@pytest.fixture(scope="module")
def tag() -> str:
    tag = expected_tag(Settings())
    if not images.is_there(tag, ENV):
        images.build(Settings(), print, env=ENV)
    return tag


@pytest.fixture
def scratch_tag(client: docker.DockerClient, tag: str) -> Iterator[str]:
    """Another name of the image, which a test may take away."""
    scratch = "chowder-local/sandbox:test-scratch"
    client.images.get(tag).tag(scratch)
    yield scratch
    if images.is_there(scratch, ENV):
        client.images.remove(scratch)


@pytest.fixture(scope="module")
def container(client: docker.DockerClient, tag: str) -> Iterator[Container]:
    """One of the image, with as few rights as a sandbox, in which nothing runs."""
    container = client.containers.run(
        tag, ["sleep", "infinity"], entrypoint="", detach=True, init=True, cap_drop=["ALL"],
        read_only=True, network_mode="none",
    )  # fmt: skip
    yield container
    container.remove(force=True)


def inside(container: Container, script: str) -> str:
    """What a shell in it says."""
    code, output = container.exec_run(["sh", "-c", script])
    assert isinstance(output, bytes)
    assert code == 0, output
    return output.decode().strip()


def test_the_image_says_whose_it_is_and_what_is_in_it(
    client: docker.DockerClient, tag: str
) -> None:
    config = client.images.get(tag).attrs["Config"]
    assert config["Labels"] == {
        "dev.chowder-local.image": "sandbox",
        "dev.chowder-local.node": VERSIONS["NODE_VERSION"],
        "dev.chowder-local.openclaw": VERSIONS["OPENCLAW_VERSION"],
    }
    assert config["User"] == "1000:1000"
    assert list(config["ExposedPorts"]) == ["18789/tcp"]
    assert not config.get("Volumes")


def test_node_and_openclaw_are_the_exact_versions(container: Container) -> None:
    node, openclaw = inside(container, "node --version; openclaw --version").splitlines()
    assert node == f"v{VERSIONS['NODE_VERSION']}"
    assert VERSIONS["OPENCLAW_VERSION"] in openclaw


def test_the_agent_is_nobody_special_and_can_write_only_its_home(container: Container) -> None:
    script = 'id -u; id -g; id -un; echo "$HOME"; find / -xdev -user 1000 -not -path "/proc/*"'
    *identity, home = inside(container, f"({script}) 2>/dev/null | grep -v ^/data/").splitlines()
    assert identity == ["1000", "1000", "openclaw", "/data"]
    assert home == "/data"


def test_the_tools_of_an_agent_are_there(container: Container) -> None:
    names = ["git", "curl", "ps", "python3", "npm"]
    assert inside(container, f"for name in {' '.join(names)}; do command -v $name; done").count(
        "/"
    ) >= len(names)


def test_every_channel_is_where_openclaw_looks_with_what_it_needs(container: Container) -> None:
    extensions = "/opt/openclaw/node_modules/openclaw/dist/extensions"
    files = (f"{extensions}/{name}/openclaw.plugin.json" for name in CHANNELS)
    # A link, because OpenClaw takes all below its own folder for ES modules.
    folders = (f"{extensions}/{name}/node_modules/." for name in CHANNELS if name != "telegram")
    inside(container, f"ls {' '.join((*files, *folders))}")


def test_openclaws_schema_of_its_configuration_is_there_and_fits_what_we_give_it(
    container: Container,
) -> None:
    assert inside(container, f"stat -c '%U %a' {SCHEMA_FILE}") == "root 644"
    schema = json.loads(inside(container, f"cat {SCHEMA_FILE}"))
    ours = agent_config.initial_config(
        gateway_token="t" * 32,
        relay_url="http://relay:1",
        relay_token="t" * 32,
        provider=ModelProvider.ANTHROPIC,
    )
    assert find_problems(schema, ours) == []
    for overrides, words in (
        ({"nonsense": 1}, '<root>: Unrecognized key: "nonsense"'),
        ({"agents.defaults.nonsense": 1}, 'agents.defaults: Unrecognized key: "nonsense"'),
        ({"channels.telegram.nonsense": 1}, 'channels.telegram: Unrecognized key: "nonsense"'),
        (
            {"agents.defaults.timeoutSeconds": "soon"},
            "agents.defaults.timeoutSeconds: Invalid input: expected number, received string",
        ),
    ):
        assert [
            str(each) for each in find_problems(schema, agent_config.to_merge_patch(overrides))
        ] == [words]


def test_the_database_that_agents_begin_with_has_nothing_of_anybodys(container: Container) -> None:
    assert inside(container, f"stat -c '%U %a' {BLANK_FILE}") == "root 644"
    program = f"""
import sqlite3
blank = sqlite3.connect("file:{BLANK_FILE}?immutable=1", uri=True)
for (name,) in blank.execute("SELECT name FROM sqlite_master WHERE type = \\"table\\""):
    if blank.execute("SELECT 1 FROM " + name).fetchone(): print(name)
"""
    filled = set(inside(container, f"python3 -c '{program}'").splitlines())
    assert {"schema_meta", "config_machine_state"} <= filled
    assert filled <= {
        "config_machine_state", "migration_runs", "migration_sources", "plugin_state_entries",
        "schema_meta",
    }  # fmt: skip


# A boot of OpenClaw.
@pytest.mark.slow
def test_what_it_has_is_neither_made_nor_looked_through_again(
    client: docker.DockerClient, tag: str
) -> None:
    seed = agent_config.initial_config(
        gateway_token=secrets.token_hex(16),
        relay_url="http://relay:1",
        relay_token=secrets.token_hex(16),
        provider=ModelProvider.OPENAI,
        overrides={"agents.defaults.thinkingDefault": "off"},
    )
    command = ["sh", "-c", started_once(seed)]
    options: dict[str, Any] = {"cap_drop": ["ALL"], "network_mode": "none"}
    said: bytes = client.containers.run(tag, command, remove=True, **options)
    assert said.decode().strip() == "3 True"


def started_once(seed: dict[str, Any]) -> str:
    """A script that starts a gateway and says what it has changed of its database's schema."""
    return f"""
        echo '{json.dumps(seed)}' >.openclaw/openclaw.json
        gateway --bind loopback >/tmp/log 2>&1 &
        curl -fsS --retry 500 --retry-all-errors --retry-delay 1 --retry-max-time 180 \
            http://127.0.0.1:18789/readyz >/dev/null 2>&1
        python3 -c 'if True:
            import os, sqlite3
            made_ms = os.stat("{BLANK_FILE}").st_mtime * 1000
            asked = "SELECT count(*), max(updated_at) FROM schema_meta"
            state = sqlite3.connect(".openclaw/state/openclaw.sqlite")
            count, changed_ms = state.execute(asked).fetchone()
            print(count, changed_ms < made_ms)
        ' || cat /tmp/log
    """


@pytest.mark.slow
def test_the_gateway_starts_without_another_node_that_waits_beside_it(
    client: docker.DockerClient, tag: str, container: Container
) -> None:
    assert client.images.get(tag).attrs["Config"]["Cmd"] == ["gateway", "--bind", "lan"]
    # With nowhere to write it ends by itself; until then its children are looked at.
    script = """
        gateway --bind loopback >/dev/null 2>&1 &
        while kill -0 $!; do ps --no-headers --ppid $! -o args; done 2>/dev/null
        echo seen; wait $!; echo $?
    """
    *children, seen, code = inside(container, script).splitlines()
    assert (seen, code) == ("seen", "1")
    # The script itself may be seen twice, in the moment before its copy becomes another program.
    others = [child for child in children if not child.startswith("/bin/sh ")]
    assert not [child for child in others if "gateway" in child]


@pytest.mark.parametrize(("start", "modules"), [("gateway", 2000), ("openclaw", 500)])
def test_what_node_has_compiled_is_found_by_who_asks_for_it(
    container: Container, start: str, modules: int
) -> None:
    # V8 names the folder after its flags.
    flags = f"$(grep -o -- '--initial[^ ]*' $(command -v {start}) || true)"
    where = f"""node {flags} -p 'require("node:module").getCompileCacheDir()'"""
    assert int(inside(container, f"find $({where}) -type f | wc -l")) > modules


def test_packages_of_many_files_are_few_to_load_and_offer_what_they_did(
    container: Container,
) -> None:
    script = """
        cd /opt/openclaw/node_modules
        cat > /dev/shm/count.mjs <<'END'
        import module from "node:module";
        let count = 0;
        const load = (url, context, next) => { count += 1; return next(url, context); };
        module.registerHooks({ load });
        const { root } = await import("/opt/openclaw/node_modules/@openclaw/fs-safe/dist/root.js");
        const { Value } = await import("/opt/openclaw/node_modules/typebox/build/value/index.mjs");
        const { Type } = await import("/opt/openclaw/node_modules/typebox/build/index.mjs");
        const { z } = await import("/opt/openclaw/node_modules/zod/index.js");
        const { default: semver } = await import("/opt/openclaw/node_modules/semver/index.js");
        const works = [
          Value.Check(Type.Object({ a: Type.String() }), { a: "b" }),
          !z.object({ a: z.string() }).safeParse({ a: 1 }).success,
          semver.gt("2.0.0", "1.9.9"),
          typeof root === "function",
        ];
        console.log(JSON.stringify([works.every(Boolean), count]));
END
        node /dev/shm/count.mjs
    """
    works, count = json.loads(inside(container, script))
    assert works
    # As they are published, they are 1,100.
    assert count < 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "worker",
    [
        "config/sessions/session-accessor.sqlite-archive",
        "config/sessions/session-transcript",
        "extensions/memory-core/memory-search",
        "infra/sqlite-store",
    ],
)
def test_a_worker_thread_loads_few_files_of_openclaws(container: Container, worker: str) -> None:
    script = f"""
        cat > /dev/shm/count.mjs <<'END'
        import {{ Worker }} from "node:worker_threads";
        const script = `
          let count = 0;
          const load = (url, context, next) => {{
            count += url.includes("/openclaw/dist/") && url.endsWith("js");
            return next(url, context);
          }};
          require("node:module").registerHooks({{ load }});
          import("/opt/openclaw/node_modules/openclaw/dist/{worker}.worker.js").then(() => {{
            console.log(count);
            setImmediate(process.exit);
          }});
        `;
        new Worker(script, {{ eval: true }});
END
        node /dev/shm/count.mjs
    """
    # As they are published, they are up to 900. The first one says where the others are.
    assert 2 <= int(inside(container, script)) < 50


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_openclaw_keeps_its_worker_threads_between_messages(container: Container) -> None:
    script = r"""
        cd /opt/openclaw/node_modules/openclaw/dist
        for name in IDLE_EXECUTION_MS= WORKER_PLACEMENT_RECONCILE_INTERVAL_MS= 'idleTimeoutMs[?][?]'
        do
            grep -rhoE "$name[0-9]+e[0-9]+" *.mjs | sort -u
        done
    """
    assert inside(container, script).splitlines() == [
        "IDLE_EXECUTION_MS=18e5",
        "WORKER_PLACEMENT_RECONCILE_INTERVAL_MS=864e5",
        "idleTimeoutMs??18e5",
    ]


def test_what_no_agent_reads_is_left_out_and_equal_files_are_there_once(
    container: Container,
) -> None:
    root = "/opt/openclaw"
    kinds = "-name '*.map' -o -name '*.d.ts' -o -name '*.d.mts'"
    assert inside(container, f"find {root} -type f \\( {kinds} \\)") == ""
    copies = f"find {root} -path '*/zod/v4/core/schemas.js'"
    contents = set(inside(container, f"{copies} | xargs sha256sum | cut -c1-64").splitlines())
    files = inside(container, f"{copies} -printf '%i\\n'").splitlines()
    assert len(files) > len(set(files)) == len(contents)


def test_nothing_of_the_build_is_left(container: Container) -> None:
    assert inside(container, "ls -A /tmp /root /run/secrets /data/.cache 2>/dev/null || true") == (
        "/tmp:"
    )


def test_the_image_is_listed_with_its_version(tag: str) -> None:
    (info,) = [info for info in images.list_images(ENV) if info.tag == tag]
    assert info.openclaw_version == VERSIONS["OPENCLAW_VERSION"]
    assert info.size_bytes > 100_000_000
    assert info.created_at.tzinfo is not None


@pytest.mark.slow
def test_a_second_build_gives_the_same_tag_from_the_cache(tag: str) -> None:
    heard: list[str] = []
    assert images.build(Settings(), heard.append, env=ENV) == tag
    assert any(tag in line for line in heard)


def test_an_image_of_ours_can_be_removed(scratch_tag: str) -> None:
    images.remove(scratch_tag, ENV)
    assert not images.is_there(scratch_tag, ENV)
    with pytest.raises(ImageUnknown):
        images.remove(scratch_tag, ENV)


def test_an_image_that_a_container_uses_is_kept(client: docker.DockerClient, tag: str) -> None:
    container = client.containers.create(tag)
    # By its id, because a tag alone could go while another one holds the image.
    try:
        with pytest.raises(ImageKept, match="container"):
            images.remove(str(client.images.get(tag).id), ENV)
    finally:
        container.remove()
    assert images.is_there(tag, ENV)


def test_an_image_that_is_not_ours_is_kept(client: docker.DockerClient) -> None:
    ours = {info.tag for info in images.list_images(ENV)}
    others = {name for image in client.images.list() for name in image.tags} - ours
    with pytest.raises(ImageKept, match="not built by"):
        images.remove(others.pop(), ENV)


def test_an_image_of_the_operators_own_is_not_built() -> None:
    with pytest.raises(ImageBuildFailed, match="CHOWDER_IMAGE"):
        images.build(Settings(image="mine:1"), print, env=ENV)


def test_a_chosen_base_that_cannot_be_had_is_told_with_a_cure() -> None:
    settings = Settings(base_image="localhost:9/no-such-base:1")
    with pytest.raises(ImageBuildFailed, match=r"no-such-base.*docker load"):
        images.build(settings, print, env=ENV)
