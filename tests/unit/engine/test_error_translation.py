"""What the SDK raises, in words that have their cure in them."""

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import (
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)
from chowder_local.engine.error_translation import translated_errors


def refusal(words: str) -> APIError:
    response = requests.Response()
    response.status_code = 500
    return APIError("no", response, words)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (refusal("too busy"), "The engine could not nap: too busy."),
        (refusal("write: no space left on device."), "left on device. Make room on its disk: "),
        (refusal("Pool overlaps with other one"), "other one. The addresses of .* 'down' and 'up'"),
        (requests.ReadTimeout("no"), "has not answered in time .could not nap.. Does it hang"),
        (requests.ConnectionError("no"), "does not answer .could not nap.. Is it running"),
        (OSError("no"), "does not answer"),
    ],
)
def test_a_failure_says_what_could_not_be_done_and_what_to_do(
    failure: Exception, words: str
) -> None:
    with pytest.raises(EngineUnavailable, match=words), translated_errors("nap"):
        raise failure


@pytest.mark.parametrize(
    ("failure", "is_silent"),
    [(refusal("no"), False), (requests.ReadTimeout("no"), True), (OSError("no"), True)],
)
def test_an_engine_that_says_no_is_told_from_one_that_says_nothing(
    failure: Exception, is_silent: bool
) -> None:
    with pytest.raises(EngineUnavailable) as raised, translated_errors("nap"):
        raise failure
    assert isinstance(raised.value, EngineSilent) is is_silent


def test_a_sandbox_that_is_gone_is_no_failure_of_the_engine() -> None:
    gone = pytest.raises(SandboxMissing, match="Could not pause sandbox chowder-1: gone")
    with gone, translated_errors("pause", sandbox_id=SandboxId("chowder-1")):
        raise NotFound("gone")


def test_what_else_is_not_found_is_a_refusal_of_the_engine() -> None:
    words = "no available subnet"
    with (
        pytest.raises(EngineUnavailable, match="make the sandbox networks: no available subnet"),
        translated_errors("make the sandbox networks"),
    ):
        raise NotFound("no", None, words)


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        ("chowder-local/sandbox:1", "chowder-local image build"),
        ("mine:1", "docker pull mine:1"),
    ],
)
def test_an_image_that_is_missing_says_how_to_get_it(image: str, cure: str) -> None:
    with (
        pytest.raises(ImageMissing, match=f"Get it with: {cure}"),
        translated_errors("x", image=image),
    ):
        raise ImageNotFound("gone")
