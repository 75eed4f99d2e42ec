"""Token counts, digests and pieces of replies."""

from chowder_local.relay.wire.conversation import Reply, ToolCall, count_tokens, digest, split_text


def test_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


def test_the_same_request_has_the_same_digest() -> None:
    assert digest("m", b"{}") == digest("m", b"{}")
    assert len({digest("m", b"{}"), digest("n", b"{}"), digest("m", b"[]")}) == 3


def test_pieces_make_up_the_text_again() -> None:
    text = " One  two three,\n\nfour five six seven "

    parts = list(split_text(text))

    assert "".join(parts) == text
    assert len(parts) == 3


def test_an_empty_text_is_one_piece() -> None:
    assert list(split_text("")) == [""]
    assert list(split_text(" ")) == [" "]


def test_a_reply_counts_what_it_says_or_calls() -> None:
    assert Reply("four").output_tokens == 1
    call = Reply(calls=(ToolCall("id", "exec", {"a": "ü"}),))
    assert call.calls[0].arguments_json == '{"a": "ü"}'
    assert call.output_tokens == 4
