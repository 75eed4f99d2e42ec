"""What is done by a click: the same as by the API, with a word about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import Instance, InstanceStatus, ModelProvider
from chowder_local.core.errors.sandboxes import EngineUnavailable
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor


async def all_of(visitor: Visitor) -> list[Instance]:
    world = visitor.http.world
    found = await world.directory.search(world.organization_id, limit=100)
    return [await world.settled(each) for each in found]


def row(html: str) -> dict[str, str | None]:
    """The one line that is put in place anew."""
    (found,) = Elements(html).all("tr", **{"hx-swap-oob": "true"})
    return found


async def test_one_click_creates_an_agent_and_names_it(visitor: Visitor) -> None:
    answer = await visitor.sent("/instances")
    assert answer.status_code == 200
    (made,) = await all_of(visitor)
    assert made.status is InstanceStatus.RUNNING
    assert f"{made.name} is being created." in answer.text


async def test_name_and_provider_may_be_chosen(visitor: Visitor) -> None:
    await visitor.sent("/instances", {"name": " Ada ", "model_provider": "openai"})
    (made,) = await all_of(visitor)
    assert (made.name, made.model_provider) == ("Ada", ModelProvider.OPENAI)


async def test_stop_and_start_answer_with_the_line(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    stopped = await visitor.sent(f"/instances/{agent.id}/stop")
    assert row(stopped.text) == {
        "role": "row",
        "id": f"instance-{agent.id}",
        "data-status": "stopped",
        "hx-swap-oob": "true",
    }
    started = await visitor.sent(f"/instances/{agent.id}/start")
    assert row(started.text)["data-status"] == "running"
    assert "Ada is running." in started.text


async def test_a_fork_has_the_name_that_was_chosen(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    asked = await visitor.get(f"/instances/{agent.id}/fork")
    assert Elements(asked.text).all("input", value="Ada (fork)")
    answer = await visitor.sent(f"/instances/{agent.id}/fork", {"name": "Bea"})
    assert "Bea is made of Ada." in answer.text
    assert {each.name for each in await all_of(visitor)} == {"Ada", "Bea"}


async def test_it_is_asked_before_anything_is_destroyed(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    asked = await visitor.get(f"/instances/{agent.id}/delete")
    assert "Delete Ada?" in asked.text
    assert len(await all_of(visitor)) == 1
    answer = await visitor.sent(f"/instances/{agent.id}/delete")
    assert "Ada is deleted." in answer.text


async def test_who_deletes_it_on_its_own_page_is_led_back(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    elements = Elements((await visitor.get(f"/instances/{agent.id}/logs")).text)
    (button,) = elements.all("button", id="delete")
    (form,) = Elements((await visitor.get(button["hx-get"] or "")).text).all("form")
    answer = await visitor.sent(form["hx-post"] or "")
    assert answer.headers["HX-Redirect"] == "/"
    assert [each.status for each in await all_of(visitor)] == []
    assert await all_of(visitor) == []


async def test_what_cannot_be_done_now_says_why_in_the_page(visitor: Visitor) -> None:
    agent = await visitor.http.world.stopped()
    answer = await visitor.sent(f"/instances/{agent.id}/stop")
    assert answer.status_code == 409
    assert Elements(answer.text).all("div", role="alert")
    assert "Not now." in answer.text
    assert "stopped" in answer.text


async def test_the_tiers_limit_is_told(visitor: Visitor) -> None:
    for number in range(10):
        await visitor.http.world.placed(InstanceStatus.STOPPED, number)
    answer = await visitor.sent("/instances")
    assert answer.status_code == 402
    assert "No more instances on this tier." in answer.text


async def test_a_form_that_makes_no_sense_names_the_field(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for path, form, field in (
        ("/instances", {"model_provider": "abacus"}, "model_provider"),
        ("/instances", {"name": "x" * 129}, "name"),
        (f"/instances/{agent.id}/fork", {}, "name"),
    ):
        answer = await visitor.sent(path, form)
        assert answer.status_code == 422
        assert f"{field}: " in answer.text
    assert len(await all_of(visitor)) == 1


async def test_a_form_is_bounded(visitor: Visitor) -> None:
    too_long = await visitor.sent("/instances", {"name": "x" * 70_000})
    assert too_long.status_code == 413
    too_many = await visitor.sent("/instances", {f"f{number}": "x" for number in range(60)})
    assert too_many.status_code == 422


async def test_an_engine_that_is_away_is_told_with_the_cure(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    visitor.http.world.engine.failing["pause"] = EngineUnavailable("Start Docker, please.")
    answer = await visitor.sent(f"/instances/{agent.id}/stop")
    assert answer.status_code == 502
    assert "Start Docker, please." in answer.text
