"""Which headers cross the relay, in both directions."""

from chowder_local.upstream.forward import for_caller, for_upstream

CREDENTIAL = ("x-api-key", "sk-organization")


def test_a_request_is_forwarded_with_its_headers_and_our_credential() -> None:
    given = [("Content-Type", "application/json"), ("anthropic-version", "2023-06-01")]

    assert for_upstream(given, CREDENTIAL) == [
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("accept-encoding", "identity"),
        CREDENTIAL,
    ]


def test_no_credential_of_the_caller_is_forwarded() -> None:
    given = [
        ("Authorization", "Bearer relay"),
        ("X-Api-Key", "relay"),
        ("x-goog-api-key", "relay"),
        ("cookie", "a=b"),
    ]

    assert for_upstream(given, ("authorization", "Bearer real")) == [
        ("accept-encoding", "identity"),
        ("authorization", "Bearer real"),
    ]


def test_hop_by_hop_headers_are_not_forwarded() -> None:
    given = [
        ("host", "relay.local"),
        ("content-length", "3"),
        ("connection", "keep-alive, X-Hop"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("x-hop", "1"),
        ("accept-encoding", "br"),
        ("accept", "*/*"),
    ]

    assert for_upstream(given, CREDENTIAL)[:-2] == [("accept", "*/*")]


def test_an_answers_headers_come_back_without_the_hop_and_its_cookies() -> None:
    given = [
        ("Content-Type", "text/event-stream"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Set-Cookie", "a=b"),
        ("Date", "now"),
        ("Server", "them"),
        ("request-id", "req_1"),
    ]

    assert for_caller(given) == [("content-type", "text/event-stream"), ("request-id", "req_1")]
