"""The first page: its list, search, escaping, charts and health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, ModelProvider, SandboxUsage
from chowder_local.dashboard.overview import PORTION
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'


def ids(html: str) -> list[str]:
    """The ids of the listed instances, from top to bottom."""
    rows = [each["id"] or "" for each in Elements(html).all("tr") if "data-status" in each]
    return [each.removeprefix("instance-") for each in rows]


async def many(visitor: Visitor, count: int, **fields: Any) -> list[str]:
    """Creates instances one after another; returns them newest first."""
    made = []
    for number in range(count):
        visitor.http.world.clock.advance(1)
        made.append((await visitor.http.world.placed(
            InstanceStatus.STOPPED, number, name=f"agent {number}", **fields,
        )).id)  # fmt: skip
    return [str(each) for each in reversed(made)]


async def test_instances_are_listed_newest_first(visitor: Visitor) -> None:
    made = await many(visitor, 3)
    html = (await visitor.get("/")).text
    assert ids(html) == made
    assert "3</strong> all" in html
    assert "3</strong> stopped" in html


async def test_an_organization_sees_its_own_only(visitor: Visitor) -> None:
    await many(visitor, 2)
    await visitor.sign_in(await visitor.http.other_key())
    html = (await visitor.get("/")).text
    assert ids(html) == []
    assert "0</strong> all" in html
    assert "There are no instances yet." in html


async def test_deleted_instances_are_not_listed(visitor: Visitor) -> None:
    await visitor.http.world.placed(InstanceStatus.TERMINATED)
    assert ids((await visitor.get("/")).text) == []


SEARCHES: list[tuple[dict[str, str], list[str]]] = [
    ({"q": "AGENT 1"}, ["instance-1"]),
    ({"q": "agent"}, ["instance-2", "instance-1", "instance-0"]),
    ({"q": "instance-2"}, ["instance-2"]),
    ({"q": "%"}, []),
    ({"q": "_"}, []),
    ({"status": "stopped", "q": "2"}, ["instance-2"]),
    ({"status": "running"}, []),
    ({"status": "terminated"}, []),
]


async def test_instances_are_searched_by_name_id_prefix_and_status(visitor: Visitor) -> None:
    await many(visitor, 3)
    pages = [await visitor.http.client.get("/", params=query) for query, _ in SEARCHES]
    got = [(query, ids(page.text)) for (query, _), page in zip(SEARCHES, pages, strict=True)]
    assert got == SEARCHES


async def test_more_rows_are_loaded_by_a_link(visitor: Visitor) -> None:
    made = await many(visitor, PORTION + 3)
    first = (await visitor.get("/?q=agent")).text
    assert ids(first) == made[:PORTION]
    (more,) = [each for each in Elements(first).all("a") if "hx-select-oob" in each]
    rest = (await visitor.get(more["href"] or "")).text
    assert ids(rest) == made[PORTION:]
    assert not [each for each in Elements(rest).all("a") if "hx-select-oob" in each]


@pytest.mark.parametrize("query", ["status=dead", f"q={'x' * 129}"])
async def test_an_invalid_search_is_refused(visitor: Visitor, query: str) -> None:
    answer = await visitor.get(f"/?{query}")
    assert answer.status_code == 422
    assert "Invalid input" in answer.text


async def test_an_unknown_position_in_the_list_is_not_found(visitor: Visitor) -> None:
    assert (await visitor.get("/?after=none")).status_code == 404


async def test_names_and_errors_are_escaped(visitor: Visitor) -> None:
    agent = await visitor.http.world.placed(
        InstanceStatus.ERROR, name=HOSTILE, error_message=HOSTILE
    )
    for path in ("/", f"/instances/{agent.id}/delete", f"/instances/{agent.id}/fork"):
        html = (await visitor.get(path)).text
        assert "alert(1)" in html
        assert "{{ 7*7 }}" in html
        elements = Elements(html)
        assert all("src" in each for each in elements.all("script"))
        assert not [each for _, each in elements.tags if "onerror" in each]
    html = (await visitor.http.client.get("/", params={"q": HOSTILE[:60]})).text
    assert not [each for _, each in Elements(html).tags if "onerror" in each]


async def test_a_running_agents_row_has_charts_and_its_last_message(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    usage_samples = visitor.http.world.usage_samples
    for at_s, cpu_s in ((1.0, 10.0), (3.0, 11.0)):
        world.engine.usages = {
            agent.sandbox_id: SandboxUsage(600_000_000, 2_000_000_000, cpu_s, at_s)
        }
        await usage_samples.read()
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Which way is <b>north</b>?"}]}'
    visitor.http.world.call_log.begin(
        agent.organization_id, agent.id, ModelProvider.OPENAI, "v1/chat/completions", body
    )
    html = (await visitor.get("/")).text
    labels = [each["aria-label"] for each in Elements(html).all("svg")]
    assert labels == [
        "Memory 600 MB of 2.0 GB; between 600 MB and 600 MB recently",
        "Processor 50 %; between 50 % and 50 % recently",
    ]
    assert "<q>Which way is &lt;b&gt;north&lt;/b&gt;?</q>" in html
    assert "gpt-4o" in html
    assert "answering" in html


async def test_a_provisioning_instance_shows_its_stage(visitor: Visitor) -> None:
    await visitor.http.world.placed(InstanceStatus.PROVISIONING)
    html = (await visitor.get("/")).text
    assert Elements(html).all("li", **{"aria-current": "step"})
    (stop, fork) = [each for each in Elements(html).all("button") if "disabled" in each]
    assert (stop["id"], fork["id"]) == ("turn-instance-1", "fork-instance-1")


async def test_the_commands_to_copy_contain_no_key(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    html = (await visitor.get("/")).text
    assert "http://server.test/v1" in html
    assert f"/instances/{agent.id}/responses" in html
    assert "$CHOWDER_KEY" in html
    assert "chd_org_" not in html


async def test_health_shows_the_findings_of_doctor_with_their_remedies(visitor: Visitor) -> None:
    html = (await visitor.get("/overview/health")).text
    assert "1 problem" in html
    assert "Start a real one." in html
    assert "0 of 0 ready" in html
    assert "the server listens at http://127.0.0.1:2469" in html
