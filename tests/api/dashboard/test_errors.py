"""Errors: a page in a browser, a message for an action, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.dashboard.conftest import NAVIGATING, Elements

if TYPE_CHECKING:
    from tests.api.conftest import Api
    from tests.api.dashboard.conftest import Visitor


async def test_an_unknown_page_is_an_html_error_in_a_browser(stranger: Visitor) -> None:
    answer = await stranger.get("/nowhere/<script>")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Page not found" in answer.text
    assert all("src" in each for each in Elements(answer.text).all("script"))
    assert Elements(answer.text).all("a", href="/")


async def test_an_unknown_page_is_a_json_error_for_programs(http: Api) -> None:
    answer = await http.client.get("/nowhere")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1", "/local/nowhere", "/assets/nowhere"])
async def test_errors_of_the_api_are_json_even_in_a_browser(http: Api, path: str) -> None:
    answer = await http.client.get(path, headers=NAVIGATING)
    assert answer.status_code == 404
    assert answer.json()["detail"]


async def test_another_method_of_a_page_is_not_allowed(visitor: Visitor) -> None:
    answer = await visitor.http.client.put("/", headers={"Origin": "http://server.test"})
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


async def test_an_action_on_a_deleted_instance_shows_an_error_in_the_page(visitor: Visitor) -> None:
    answer = await visitor.post("/instances/none/stop")
    assert answer.status_code == 404
    (notice,) = Elements(answer.text).all("div")
    assert notice["class"] == "notice bad"


async def test_an_unexpected_error_reveals_no_details(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(visitor.http.world.directory, "search", broken)
    answer = await visitor.get("/")
    assert answer.status_code == 500
    assert "a secret" not in answer.text
    assert "Something went wrong" in answer.text
    assert "unexpected error" in caplog.text
