"""Embeddings that depend on the text only."""

import base64
import json
import math
import struct
from typing import Any

import pytest

from chowder_local.relay.wire.openai import render_embeddings


def vectors(given: Any, **more: Any) -> list[Any]:
    whole = json.loads(render_embeddings({"model": "m", "input": given, **more}))
    assert whole["model"] == "m"
    return [each["embedding"] for each in whole["data"]]


def test_the_same_text_has_the_same_vector_of_length_one() -> None:
    (one,), (again, other) = vectors("a"), vectors(["a", "b"])

    assert one == again != other
    assert len(one) == 64
    assert math.sqrt(sum(number * number for number in one)) == pytest.approx(1.0)


def test_a_list_of_tokens_is_a_text() -> None:
    assert len(vectors([1, 2, 3])) == 1
    assert len(vectors([[1, 2], [3]])) == 2
    assert vectors([]) == []


def test_dimensions_and_base64_are_heeded() -> None:
    (plain,) = vectors("a", dimensions=3)
    (packed,) = vectors("a", dimensions=3, encoding_format="base64")

    assert struct.unpack("<3f", base64.b64decode(packed)) == pytest.approx(plain)


def test_texts_are_counted() -> None:
    assert json.loads(render_embeddings({"input": ["abcd", "a"]}))["usage"] == {
        "prompt_tokens": 2,
        "total_tokens": 2,
    }
