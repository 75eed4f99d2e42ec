"""The built image, looked at from the engine and from inside."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.engine.image_recipe import read_versions, recipe_dir
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import SCHEMA_FILE, find_problems
from chowder_local.openclaw.shortcuts import (
    OBSERVATIONS_FILE,
    find_misfits,
    read_observations,
    unproved,
)
from tests.docker.image.inside import inside

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

BLANK_FILE = "/opt/openclaw/blank.sqlite"
VERSIONS = read_versions(recipe_dir())


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
    names = ["git", "curl", "ps", "python3", "python", "npm"]
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


def test_every_shortcut_fits_the_openclaw_that_is_in_it(container: Container) -> None:
    seen = read_observations(inside(container, f"cat {OBSERVATIONS_FILE}").encode())
    assert seen is not None
    assert seen.openclaw == VERSIONS["OPENCLAW_VERSION"]
    assert find_misfits(seen) == {}
    assert unproved(seen.openclaw) == []


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
@pytest.mark.nightly
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
    flags = f"$(grep -oE -- '--in(itial|vocation)[^ ]*' $(command -v {start}) || true)"
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


def test_openclaw_keeps_threads_and_databases_over_a_silence(container: Container) -> None:
    script = r"""
        cd /opt/openclaw/node_modules/openclaw/dist
        for name in IDLE_EXECUTION_MS= SQLITE_IDLE_HANDLE_TTL_MS= \
            WORKER_PLACEMENT_RECONCILE_INTERVAL_MS= 'idleTimeoutMs[?][?]'
        do
            grep -rhoE "$name[0-9]+e[0-9]+" *.mjs | sort -u
        done
        grep -rhoE 'pending=set[A-Z][a-z]+' . | sort -u
        grep -rhoE 'setTimeout[(]collect,[0-9e]+' . | sort -u
    """
    assert inside(container, script).splitlines() == [
        "IDLE_EXECUTION_MS=864e5",
        "SQLITE_IDLE_HANDLE_TTL_MS=864e5",
        "WORKER_PLACEMENT_RECONCILE_INTERVAL_MS=864e5",
        "idleTimeoutMs??864e5",
        # When a thread's garbage is collected.
        "setTimeout(collect,900",
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
