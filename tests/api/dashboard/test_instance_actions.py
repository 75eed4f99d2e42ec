"""Actions on instances: create, stop, start, fork and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import Instance, InstanceStatus, ModelProvider
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor


async def all_of(visitor: Visitor) -> list[Instance]:
    world = visitor.http.world
    found = await world.directory.search(world.organization_id, limit=100)
    return [await world.settled(each) for each in found]


def row(html: str) -> dict[str, str | None]:
    """The only row that the response replaces."""
    (found,) = Elements(html).all("tr", **{"hx-swap-oob": "true"})
    return found


async def test_a_create_without_a_name_names_the_agent(visitor: Visitor) -> None:
    answer = await visitor.post("/instances")
    assert answer.status_code == 200
    (made,) = await all_of(visitor)
    assert made.status is InstanceStatus.RUNNING
    assert f"{made.name} is being created." in answer.text


async def test_a_create_takes_a_name_and_a_provider(visitor: Visitor) -> None:
    await visitor.post("/instances", {"name": " Ada ", "model_provider": "openai"})
    (made,) = await all_of(visitor)
    assert (made.name, made.model_provider) == ("Ada", ModelProvider.OPENAI)


async def test_stop_and_start_return_the_instances_row(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    stopped = await visitor.post(f"/instances/{agent.id}/stop")
    assert row(stopped.text) == {
        "role": "row",
        "id": f"instance-{agent.id}",
        "data-status": "stopped",
        "hx-swap-oob": "true",
    }
    started = await visitor.post(f"/instances/{agent.id}/start")
    assert row(started.text)["data-status"] == "running"
    assert "Ada is running." in started.text


async def test_a_fork_gets_the_typed_name(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    dialog = await visitor.get(f"/instances/{agent.id}/fork")
    assert Elements(dialog.text).all("input", value="Ada (fork)")
    answer = await visitor.post(f"/instances/{agent.id}/fork", {"name": "Bea"})
    assert "Bea is being created from Ada." in answer.text
    assert {each.name for each in await all_of(visitor)} == {"Ada", "Bea"}


async def test_deleting_asks_for_confirmation(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    dialog = await visitor.get(f"/instances/{agent.id}/delete")
    assert "Delete Ada?" in dialog.text
    assert len(await all_of(visitor)) == 1
    answer = await visitor.post(f"/instances/{agent.id}/delete")
    assert "Ada is deleted." in answer.text


async def test_deleting_on_the_instances_page_redirects_to_the_overview(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    elements = Elements((await visitor.get(f"/instances/{agent.id}/logs")).text)
    (button,) = elements.all("button", id="delete")
    (form,) = Elements((await visitor.get(button["hx-get"] or "")).text).all("form")
    answer = await visitor.post(form["hx-post"] or "")
    assert answer.headers["HX-Redirect"] == "/"
    assert [each.status for each in await all_of(visitor)] == []
    assert await all_of(visitor) == []


async def test_a_conflict_is_explained_in_the_page(visitor: Visitor) -> None:
    agent = await visitor.http.world.stopped()
    answer = await visitor.post(f"/instances/{agent.id}/stop")
    assert answer.status_code == 409
    assert Elements(answer.text).all("div", role="alert")
    assert "Not possible now." in answer.text
    assert "stopped" in answer.text


async def test_an_invalid_form_names_the_field(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for path, form, field in (
        ("/instances", {"model_provider": "abacus"}, "model_provider"),
        ("/instances", {"name": "x" * 129}, "name"),
        (f"/instances/{agent.id}/fork", {}, "name"),
    ):
        answer = await visitor.post(path, form)
        assert answer.status_code == 422
        assert f"{field}: " in answer.text
    assert len(await all_of(visitor)) == 1


async def test_a_form_is_limited_in_bytes_and_fields(visitor: Visitor) -> None:
    too_long = await visitor.post("/instances", {"name": "x" * 70_000})
    assert too_long.status_code == 413
    too_many = await visitor.post("/instances", {f"f{number}": "x" for number in range(60)})
    assert too_many.status_code == 422
