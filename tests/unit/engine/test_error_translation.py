"""What the SDK raises, in words that have their cure in them."""

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from chowder_local.core.errors.sandboxes import (
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)
from chowder_local.engine.error_translation import in_words, needing


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
    with pytest.raises(EngineUnavailable, match=words), in_words("nap"):
        raise failure


@pytest.mark.parametrize(
    ("failure", "is_silent"),
    [(refusal("no"), False), (requests.ReadTimeout("no"), True), (OSError("no"), True)],
)
def test_an_engine_that_says_no_is_told_from_one_that_says_nothing(
    failure: Exception, is_silent: bool
) -> None:
    with pytest.raises(EngineUnavailable) as raised, in_words("nap"):
        raise failure
    assert isinstance(raised.value, EngineSilent) is is_silent


def test_what_is_gone_is_no_failure_of_the_engine() -> None:
    with pytest.raises(SandboxMissing), in_words("nap"):
        raise NotFound("gone")


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        ("chowder-local/sandbox:1", "chowder-local image build"),
        ("mine:1", "docker pull mine:1"),
    ],
)
def test_an_image_that_is_missing_says_how_to_get_it(image: str, cure: str) -> None:
    with pytest.raises(ImageMissing, match=f"Get it with: {cure}"), in_words("x"), needing(image):
        raise ImageNotFound("gone")
