"""Translating the SDK's errors into messages with a remedy."""

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import (
    EngineDiskFull,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)
from chowder_local.engine.error_translation import translated_errors


def refusal(explanation: str) -> APIError:
    response = requests.Response()
    response.status_code = 500
    return APIError("no", response, explanation)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (refusal("too busy"), "The engine could not nap: too busy."),
        (
            refusal("write: no space left on device."),
            "no space left on device. Free space on its disk: ",
        ),
        (refusal("Pool overlaps with other one"), "other one. Another network .* 'down' and 'up'"),
        (requests.ReadTimeout("no"), "did not answer in time .could not nap.. If it hangs"),
        (requests.ConnectionError("no"), "does not answer .could not nap.. Is it running"),
        (OSError("no"), "does not answer"),
    ],
)
def test_an_error_names_the_failed_call_and_a_remedy(failure: Exception, message: str) -> None:
    with pytest.raises(EngineUnavailable, match=message) as raised, translated_errors("nap"):
        raise failure
    assert isinstance(raised.value, EngineDiskFull) == ("space left" in message)


@pytest.mark.parametrize(
    ("failure", "is_silent"),
    [(refusal("no"), False), (requests.ReadTimeout("no"), True), (OSError("no"), True)],
)
def test_a_refusal_differs_from_no_answer(failure: Exception, is_silent: bool) -> None:
    with pytest.raises(EngineUnavailable) as raised, translated_errors("nap"):
        raise failure
    assert isinstance(raised.value, EngineSilent) is is_silent


def test_a_missing_sandbox_is_not_an_error_of_the_engine() -> None:
    gone = pytest.raises(SandboxMissing, match="Could not pause sandbox chowder-1: gone")
    with gone, translated_errors("pause", sandbox_id=SandboxId("chowder-1")):
        raise NotFound("gone")


def test_any_other_missing_resource_is_a_refusal_of_the_engine() -> None:
    reason = "no available subnet"
    with (
        pytest.raises(EngineUnavailable, match="create the sandbox networks: no available subnet"),
        translated_errors("create the sandbox networks"),
    ):
        raise NotFound("no", None, reason)


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        ("chowder-local/sandbox:1", "chowder-local image build"),
        ("mine:1", "docker pull mine:1"),
    ],
)
def test_the_error_for_a_missing_image_says_how_to_get_it(image: str, cure: str) -> None:
    with (
        pytest.raises(ImageMissing, match=f"Get it with: {cure}"),
        translated_errors("x", image=image),
    ):
        raise ImageNotFound("gone")
