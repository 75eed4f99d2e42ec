"""Which responses and events of a gateway are taken."""

from chowder_local.openclaw.responses.gateway_shapes import check_event, check_response


def test_members_that_nobody_relies_on_may_be_anything() -> None:
    check_response({"output": [{"type": "new", "more": [1]}], "later": object()})
    check_event({"type": "new", "more": None})
