"""The build's command line, and the parsing of its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.images import (
    LONGEST_QUOTE,
    build_arguments,
    build_command,
    command_env,
    find_ca_bundle,
    format_progress,
    relevant_lines,
)

VERSIONS = {"NODE_VERSION": "24.0.0", "OPENCLAW_VERSION": "2026.1.1", "NPM_VERSION": "11.0.0"}


def test_the_command_passes_arguments_secret_and_folder() -> None:
    command = build_command(
        folder=Path("/recipe"),
        tag="box:1",
        arguments={"A": "b=c"},
        ca_bundle=Path("/ca.pem"),
        no_cache=True,
    )
    assert command == [
        *("docker", "build", "--progress", "plain", "--tag", "box:1", "--build-arg", "A=b=c"),
        *("--secret", "id=ca,src=/ca.pem", "--no-cache", "/recipe"),
    ]


def test_no_secret_and_no_flag_are_passed_by_default() -> None:
    command = build_command(
        folder=Path("/recipe"), tag="box:1", arguments={}, ca_bundle=None, no_cache=False
    )
    assert "--secret" not in command
    assert "--no-cache" not in command


def test_the_arguments_are_the_base_and_the_exact_versions() -> None:
    assert build_arguments("debian:13", VERSIONS, {"PATH": "/bin"}) == {
        "BASE_IMAGE": "debian:13",
        "NODE_VERSION": "24.0.0",
        "OPENCLAW_VERSION": "2026.1.1",
    }


@pytest.mark.parametrize("name", ["NPM_CONFIG_REGISTRY", "npm_config_registry"])
def test_the_npm_registry_of_the_environment_is_passed_on(name: str) -> None:
    arguments = build_arguments("debian:13", VERSIONS, {name: "https://npm.example"})
    assert arguments["NPM_CONFIG_REGISTRY"] == "https://npm.example"


def test_the_command_reaches_the_engine_that_was_found() -> None:
    address = EngineAddress("unix:///run/x.sock", "a test")
    env = command_env(address, {"PATH": "/bin", "DOCKER_CONTEXT": "other", "BUILDX_BUILDER": "far"})
    assert env == {
        "PATH": "/bin",
        "DOCKER_HOST": "unix:///run/x.sock",
        "DOCKER_BUILDKIT": "1",
        "BUILDX_BUILDER": "default",
    }


def test_the_command_uses_the_certificates_of_the_engine_address() -> None:
    env = command_env(EngineAddress("tcp://127.0.0.1:2376", "a test", Path("/certs")), {})
    assert (env["DOCKER_TLS_VERIFY"], env["DOCKER_CERT_PATH"]) == ("1", "/certs")


def test_the_setting_overrides_the_hosts_ca_bundle(tmp_path: Path) -> None:
    host = tmp_path / "host.pem"
    host.touch()
    chosen = tmp_path / "chosen.pem"
    assert find_ca_bundle(chosen, {"SSL_CERT_FILE": str(host)}) == chosen


@pytest.mark.parametrize("name", ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"])
def test_the_hosts_ca_bundle_is_used_if_there_is_one(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "host.pem"
    bundle.touch()
    assert find_ca_bundle(None, {name: str(bundle)}) == bundle


def test_a_missing_ca_bundle_is_ignored(tmp_path: Path) -> None:
    assert find_ca_bundle(None, {"SSL_CERT_FILE": str(tmp_path / "gone.pem")}) is None
    assert find_ca_bundle(None, {}) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#4 [stage-0 1/8] FROM docker.io/library/x", "[1/8] FROM docker.io/library/x"),
        ("#9 [2/8] RUN set -eu;     true", "[2/8] RUN set -eu; true"),
        ("#9 19.89 added 330 packages in 20s ", "added 330 packages in 20s"),
        ("#9 DONE 21.0s", "done in 21.0 s"),
        ("#9 DONE 0.2s", None),
        ("#9 CACHED", None),
        ("#9 19.89 ", None),
        ("#1 [internal] load build definition from Dockerfile", None),
        ("#1 transferring dockerfile: 2.95kB done", None),
        ("", None),
        ("ERROR: no space left on device", "ERROR: no space left on device"),
    ],
)
def test_a_line_of_progress_is_shortened_or_dropped(line: str, expected: str | None) -> None:
    assert format_progress(line) == expected


def test_a_long_step_is_cut() -> None:
    text = format_progress(f"#9 [stage-0 2/8] RUN {'x' * 500}")
    assert text is not None
    assert len(text) == 100
    assert text.endswith("…")


def test_a_failed_build_quotes_the_output_of_the_failed_step() -> None:
    lines = [
        "#7 ERROR: process did not complete",
        "------",
        " > [stage-0 3/8] RUN npm ci:",
        "1.20 npm error code ENOTFOUND",
        "1.21 npm error network request failed",
        "------",
        "Dockerfile:22",
        "ERROR: failed to solve",
    ]
    assert relevant_lines(lines) == [
        "1.20 npm error code ENOTFOUND",
        "1.21 npm error network request failed",
    ]


def test_a_build_that_failed_before_any_step_quotes_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(40)] + ["", "ERROR: no builder"]
    quoted = relevant_lines(lines)
    assert len(quoted) == LONGEST_QUOTE
    assert quoted[-1] == "ERROR: no builder"


def test_a_failed_step_without_output_quotes_the_last_lines() -> None:
    lines = ["------", " > [2/8] RUN false:", "------", "ERROR: exit code 1"]
    assert relevant_lines(lines)[-1] == "ERROR: exit code 1"
