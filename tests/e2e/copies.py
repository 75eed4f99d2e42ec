"""Agents with a past, and whether a copy of one has it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from tests.e2e.api import Api

ASKED = "What did I just ask you?"
COLOUR, CODE = "My colour is teal.", "The code is 4711."
NOTES = "workspace/notes.md"


def tell(api: Api, instance_id: str, session: str) -> None:
    """Gives an agent a file and two conversations."""
    api.say(instance_id, COLOUR)
    api.say(instance_id, CODE, session=session)
    write(api, instance_id, "teal")


def local(api: Api, method: str, path: str, **more: Any) -> httpx.Response:
    root = str(api.base_url).removesuffix("/v1/")
    answer = api.request(method, f"{root}/local/{path}", **more)
    assert answer.is_success, answer.text
    return answer


def copied(api: Api, path: str, **more: Any) -> str:
    """The id of a copy, once it is running."""
    instance_id: str = local(api, "POST", path, **more).json()["id"]
    api.until(instance_id, "running")
    return instance_id


def write(api: Api, instance_id: str, content: str) -> None:
    body = {"path": NOTES, "content": content}
    assert api.put(f"instances/{instance_id}/files/content", json=body).status_code == 204


def read(api: Api, instance_id: str) -> str:
    answer = api.get(f"instances/{instance_id}/files/content", params={"path": NOTES})
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["content"]
    return content


def assert_history(api: Api, instance_id: str, session: str) -> None:
    """Fails unless an agent has the file and the named conversation of the original."""
    answer = api.say(instance_id, ASKED, session=session)
    assert f'Turn 2. You said: "{ASKED}" Before that: "{CODE}"' in answer
    assert read(api, instance_id) == "teal"
