"""What goes wrong, for people: a page for a page, a line for an action, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.dashboard.conftest import NAVIGATING, Elements

if TYPE_CHECKING:
    from tests.api.conftest import Api
    from tests.api.dashboard.conftest import Visitor


async def test_a_page_that_is_not_there_is_told_to_people_in_html(stranger: Visitor) -> None:
    answer = await stranger.get("/nowhere/<script>")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Page not found" in answer.text
    assert all("src" in each for each in Elements(answer.text).all("script"))
    assert Elements(answer.text).all("a", href="/")


async def test_and_to_programs_in_json(http: Api) -> None:
    answer = await http.client.get("/nowhere")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1", "/local/nowhere", "/assets/nowhere"])
async def test_below_the_api_a_failure_is_json_whoever_asks(http: Api, path: str) -> None:
    answer = await http.client.get(path, headers=NAVIGATING)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_a_method_that_a_page_has_not_is_not_allowed(visitor: Visitor) -> None:
    answer = await visitor.http.client.put("/", headers={"Origin": "http://server.test"})
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


async def test_an_action_on_what_is_gone_is_a_line_in_the_page(visitor: Visitor) -> None:
    answer = await visitor.sent("/instances/none/stop")
    assert answer.status_code == 404
    (notice,) = Elements(answer.text).all("div")
    assert notice["class"] == "notice bad"


async def test_a_defect_of_ours_tells_nothing_but_that(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(visitor.http.world.directory, "search", broken)
    answer = await visitor.get("/")
    assert answer.status_code == 500
    assert "a secret" not in answer.text
    assert "Something went wrong" in answer.text
    assert "a defect of ours" in caplog.text
