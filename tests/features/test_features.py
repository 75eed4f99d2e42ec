"""Which features a server has: those of the package but for those that are off, and others'."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.cli.main import run
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.features.feature import NAMES, Feature, choose
from chowder_local.features.front import whole_of
from tests.api.conftest import Api, app_of, open_client
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

OTHER = """
from contextlib import asynccontextmanager

import click

from chowder_local.features.breakpoints.api import OPERATIONS
from chowder_local.features.feature import Feature, Front

@asynccontextmanager
async def open_other(kernel):
    yield object()

FEATURE = Feature("other", "other", open_other, Front)
TWIN = Feature("twin", "other", open_other, lambda: Front(operations=OPERATIONS))
NOTHING = 1

@click.command()
def greet():
    click.echo("Hello from another package")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with these entry points, and gives them."""

    def installed(group: str, **entries: str) -> list[EntryPoint]:
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "__init__.py").write_text(OTHER)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "other", raising=False)
        return [
            each for found in distributions(path=[str(tmp_path)]) for each in found.entry_points
        ]

    return installed


def names(features: tuple[Feature, ...]) -> list[str]:
    return [each.name for each in features]


def test_features_are_left_out_by_name_or_all_together() -> None:
    assert names(choose((), ())) == [*NAMES]
    assert names(choose(("breakpoints",), ())) == [each for each in NAMES if each != "breakpoints"]
    assert choose(("all",), ()) == ()


def test_a_name_that_no_feature_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsInvalid, match=r"called nope\. There are: budgets, breakpoints"):
        choose(("nope",), ())


def test_a_feature_of_another_package_comes_after_those_of_this_one(install: Any) -> None:
    found = install("chowder_local.features", other="other:FEATURE")
    features = choose((), found)
    assert names(features) == [*NAMES, "other"]
    assert names(choose(("other",), found)) == [*NAMES]
    # It has no folder of templates, and needs none.
    assert whole_of(features).operations == whole_of(choose((), ())).operations


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"broken": "nowhere:FEATURE"}, r"nowhere:FEATURE\) cannot be imported: ModuleNotFound"),
        ({"number": "other:NOTHING"}, r"number .* is no Feature of that name"),
        ({"renamed": "other:FEATURE"}, r"renamed .* is no Feature of that name"),
    ],
    ids=str,
)
def test_a_broken_feature_of_another_package_is_named_with_how_to_leave_it_out(
    install: Any, entry: dict[str, str], problem: str
) -> None:
    found = install("chowder_local.features", **entry)
    with pytest.raises(SettingsInvalid, match=problem) as refusal:
        choose((), found)
    (name,) = entry
    assert f"CHOWDER_FEATURES_OFF={name}" in str(refusal.value)
    assert names(choose((name,), found)) == [*NAMES]


def test_two_features_of_one_name_are_refused(install: Any) -> None:
    found = install("chowder_local.features", breakpoints="other:FEATURE")
    with pytest.raises(SettingsInvalid, match="Two packages bring a feature called breakpoints"):
        choose((), found)


def test_two_features_with_one_address_are_refused(install: Any) -> None:
    features = choose((), install("chowder_local.features", twin="other:TWIN"))
    with pytest.raises(SettingsInvalid, match=r"one address: GET /local/instances/.*/breakpoint"):
        whole_of(features)


async def test_a_server_without_a_feature_has_none_of_its_calls_and_says_which_it_has(
    tmp_path: Path,
) -> None:
    async with (
        open_world(tmp_path, features_off=("approvals",)) as world,
        open_client(app_of(world)) as client,
    ):
        http = Api(client, world)
        there = await http.get("/local/instances/i/breakpoint")
        gone = await http.get("/local/instances/i/approvals", is_documented=False)
        assert "Instance" in there.json()["detail"]
        assert "No call has this path" in gone.json()["detail"]
        document = (await client.get("/openapi.json")).json()["paths"]
        assert "/local/instances/{instance_id}/breakpoint" in document
        assert "/local/instances/{instance_id}/approvals" not in document
        assert (await client.get("/local/health")).json()["features"] == [
            each for each in NAMES if each != "approvals"
        ]


async def test_without_messengers_no_channel_is_connected_offline(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, features_off=("messengers",)) as world,
        open_client(app_of(world)) as client,
    ):
        agent = await world.created()
        answer = await Api(client, world).post(
            f"/v1/instances/{agent.id}/channels/telegram/connect",
            json={"config": {"offline": True}},
        )
    assert answer.status_code == 422
    assert "CHOWDER_FEATURES_OFF leaves it out" in answer.json()["detail"][0]["msg"]


def test_a_command_of_another_package_is_listed_with_its_package_and_runs(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install("chowder_local.commands", greet="other:greet", broken="nowhere:command")
    assert run(["--help"], {}) == 0
    text = capsys.readouterr().out
    assert "Commands of other packages" in text
    assert "Of other." in text
    assert run(["greet"], {}) == 0
    assert capsys.readouterr().out == "Hello from another package\n"
    assert run(["broken"], {}) == 1
    assert "The command broken of other cannot be imported" in capsys.readouterr().err


async def test_all_features_may_be_off(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, features_off=("all",)) as world,
        open_client(app_of(world)) as client,
    ):
        assert (await client.get("/local/health")).json()["features"] == []
        assert (await Api(client, world).get("/v1/instances")).status_code == 200
