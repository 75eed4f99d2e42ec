"""Responses and events of a gateway that are accepted."""

from chowder_local.openclaw.responses.response_normalizer import check_event, check_response


def test_unused_members_may_have_any_type() -> None:
    check_response({"output": [{"type": "new", "more": [1]}], "later": object()})
    check_event({"type": "new", "more": None})
