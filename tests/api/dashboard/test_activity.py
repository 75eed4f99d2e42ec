"""What an instance is doing, and buttons that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.api.dashboard.conftest import Elements
from tests.api.test_activity import HELPER
from tests.api.test_unasked_turns import TOOL, begin, end
from tests.scripted.gateway import ok
from tests.scripted.programs import done

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script>'
JOB = "agent:main:cron:1"


async def test_what_an_agent_does_is_shown_and_ended(visitor: Visitor) -> None:
    world = visitor.http.world
    instance = await world.created()
    path = f"/instances/{instance.id}/activity"
    assert f"{instance.name} is idle" in (await visitor.get(path)).text
    tasks = {"tasks": [{**HELPER, "title": HOSTILE, "sessionKey": JOB}]}
    world.gateway.rpc_answers |= {"tasks.list": ok(tasks), "tasks.cancel": ok({"cancelled": True})}
    world.programs.answers |= {"sessions.list": done(sessions=[])}
    tool = {**TOOL, "arguments": f'{{"command": {HOSTILE!r}}}'}
    end(visitor.http, begin(visitor.http, instance, f"[cron:1 daily] {HOSTILE}", JOB), "", tool)
    html = (await visitor.get(f"{path}/list")).text
    elements = Elements(html)
    assert not elements.all("script")
    assert f"{instance.name} is busy" in html
    (turn,) = world.traces.in_progress(instance.id)
    cancels = [each["hx-post"] for each in elements.all("button")]
    assert cancels == [f"{path}/cancel", f"{path}/{turn.id}/cancel", f"{path}/task-1/cancel"]
    answer = await visitor.post(f"{path}/{turn.id}/cancel")
    assert answer.status_code == 200, answer.text
    assert turn.status == "cancelled"
    assert (await visitor.post(f"{path}/{turn.id}/cancel")).status_code == 404
    assert "Ended: task-1." in (await visitor.post(f"{path}/cancel")).text
