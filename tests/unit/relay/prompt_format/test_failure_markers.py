"""Finding failures by their markers."""

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.relay.prompt_format import FailureMarkers, read_marked_message

ONE, OTHER = SandboxId("one"), SandboxId("other")


def test_a_failure_is_found_by_its_marker_anywhere_in_a_text() -> None:
    log = FailureMarkers()
    failure = ProviderFailed("anthropic", 401, "invalid x-api-key")
    log.remember(ModelKeyMissing("openai"), ONE)

    marker = log.remember(failure, ONE)

    assert marker.startswith("relay-failure-")
    assert log.find(f'400: {{"error":{{"message":"{marker}"}}}}') is failure


def test_texts_without_a_known_marker_have_no_failure() -> None:
    log = FailureMarkers()

    assert log.find("internal error") is None
    assert log.find("relay-failure-" + "0" * 32) is None


def test_the_last_of_several_markers_is_used() -> None:
    log = FailureMarkers()
    first, second = ProviderFailed("a", 500, "1"), ProviderFailed("a", 500, "2")

    text = f"{log.remember(first, ONE)} then {log.remember(second, ONE)}"

    assert log.find(text) is second


def test_old_failures_make_room_for_new_ones() -> None:
    log = FailureMarkers(capacity=2)
    failures = [ProviderFailed("a", 500, str(number)) for number in range(3)]

    markers = [log.remember(failure, ONE) for failure in failures]

    assert [log.find(marker) for marker in markers] == [None, *failures[1:]]


def test_a_sandboxs_latest_failure_is_found_if_it_is_new_enough() -> None:
    now = [1.0]
    log = FailureMarkers(clock_s=lambda: now[0])
    old, new, foreign = (ProviderFailed("a", 500, words) for words in ("old", "new", "foreign"))
    assert log.latest(ONE, 0.0) is None
    log.remember(old, ONE)
    now[0] = 2.0
    log.remember(new, ONE)
    log.remember(foreign, OTHER)

    assert log.latest(ONE, 1.5) is new
    assert log.latest(SandboxId("third"), 0.0) is None
    assert log.latest(ONE, 2.5) is None


def test_a_markers_message_is_read_without_the_log_and_from_a_cut_text() -> None:
    failure = ProviderFailed("openai", 429, "Zoë, slow down.")
    marker = FailureMarkers().remember(failure, ONE)

    assert read_marked_message(f'400: {{"error":{{"message":"{marker}"}}}}') == str(failure)
    assert read_marked_message(marker[:-3]) == str(failure)[:-2]
    assert "429" not in marker.partition("-failure-")[2][33:]
    assert read_marked_message("400: relay-failure-" + "0" * 32) is None
