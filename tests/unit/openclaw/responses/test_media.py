"""Images and files of messages in the clients' and the gateway's forms."""

import base64
from typing import Any

import pytest

from chowder_local.core.errors.agents import MessageRefused, MessageTooLarge
from chowder_local.openclaw.responses import inputs
from chowder_local.openclaw.responses.inputs import (
    is_medium,
    may_show_images,
    placeholder,
    to_gateway_file,
    to_gateway_image,
)

PIXEL = "iVBORw0KGgo="


def file_part(
    content: bytes, name: str | None = None, declared: str | None = None
) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    if declared is not None:
        data = f"data:{declared};base64,{data}"
    return {"type": "input_file", "file_data": data} | ({"filename": name} if name else {})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
            {
                "type": "input_image",
                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
            },
        ),
        (
            {"type": "input_image", "image_url": "https://x.example/y.png"},
            {
                "type": "input_image",
                "source": {"type": "url", "url": "https://x.example/y.png"},
            },
        ),
        (
            {"type": "input_image", "source": {"type": "url", "url": "https://x"}, "detail": "low"},
            {"type": "input_image", "source": {"type": "url", "url": "https://x"}},
        ),
        (
            {"type": "input_file", "source": {"type": "url", "url": "https://x"}, "filename": "x"},
            {"type": "input_file", "source": {"type": "url", "url": "https://x"}},
        ),
        (
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "text/plain",
                    "data": "SGk=",
                    "filename": "a.txt",
                },
            },
        ),
        (
            {"type": "input_file", "file_data": "SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "text/plain",
                    "data": "SGk=",
                    "filename": "file",
                },
            },
        ),
        (
            {"type": "input_file", "file_data": "data:;base64,SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "text/plain",
                    "data": "SGk=",
                    "filename": "file",
                },
            },
        ),
        (
            {"type": "input_file", "file_url": "https://x.example/a.pdf"},
            {"type": "input_file", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        ),
    ],
)
def test_openais_form_of_a_part_becomes_the_gateways(
    part: dict[str, Any], expected: dict[str, Any]
) -> None:
    read = to_gateway_image if part["type"] == "input_image" else to_gateway_file
    assert read(part) == expected


def test_an_image_in_the_chat_completions_form_is_accepted() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://x.example/y.png", "detail": "low"}}
    assert to_gateway_image(part)["source"] == {"type": "url", "url": "https://x.example/y.png"}


@pytest.mark.parametrize(
    ("part", "media_type"),
    [
        (file_part(b"a,b", "a.csv"), "text/csv"),
        (file_part(b"{}", "a.json"), "application/json"),
        (file_part(b"# Hi", declared="text/markdown"), "text/markdown"),
        (file_part(b"print(1)", "a.py"), "text/plain"),
        (file_part(b"<a/>", "a.xml", "application/xml"), "text/plain"),
        (file_part(b"no PDF", "a.pdf"), "text/plain"),
        (file_part("Grüße".encode("utf-16")), "text/plain"),
        (file_part(b"%PDF-1.7 \xff", "a.bin"), "application/pdf"),
    ],
)
def test_a_file_goes_as_what_the_gateway_reads(part: dict[str, Any], media_type: str) -> None:
    sent = to_gateway_file(part)
    assert sent["type"] == "input_file"
    assert sent["source"]["media_type"] == media_type


def test_a_file_that_is_an_image_is_shown() -> None:
    expected = {
        "type": "input_image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    assert to_gateway_file(file_part(base64.b64decode(PIXEL), "a.png")) == expected
    assert to_gateway_file(file_part(base64.b64decode(PIXEL), "a", "image/png")) == expected


def test_data_may_have_line_breaks_or_a_data_url() -> None:
    assert to_gateway_file({"file_data": "SG\nk"})["source"]["data"] == "SGk="
    assert to_gateway_file({"file_data": "data:text/plain,a%20b"})["source"]["data"] == "YSBi"
    assert (
        to_gateway_file({"file_data": "data:text/plain;charset=utf-8,a"})["source"]["data"]
        == "YQ=="
    )


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (file_part(b"\0\1", "a.docx"), "'a.docx' is neither text, PDF nor image.*files API"),
        (file_part(b"\xff\x00"), "'file' is neither text"),
        (file_part(b"<svg/>", "a.svg"), "an image of type image/svg"),
        ({"file_data": "data:text/plain;base64"}, "no comma"),
        ({"file_data": "data:text/plain;base64,"}, "is empty"),
        ({"file_data": "5%"}, "not base64"),
        ({"file_data": "SGk=", "filename": 5}, "filename must be a string"),
        ({"file_url": "file:///etc/passwd"}, "http, https or data"),
        ({"file_url": 5}, "file_url must be a string"),
        ({"file_id": "file-1"}, "ids are not kept"),
    ],
)
def test_a_file_that_no_agent_could_read_is_refused(part: dict[str, Any], words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        to_gateway_file({"type": "input_file"} | part)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/svg+xml;base64,AAAA", "svg.* is not one of image/gif"),
        ("data:image/png;base64,", "is empty"),
        ("/home/me/a.png", "http, https or data URL"),
        (None, "ids are not kept"),
    ],
)
def test_an_image_that_no_agent_could_see_is_refused(url: str | None, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        to_gateway_image({"type": "input_image", "image_url": url})


def test_placeholders_name_media_where_only_text_fits() -> None:
    assert placeholder(to_gateway_file(file_part(b"Hi", "a.txt"))) == "[file a.txt]"
    assert (
        placeholder(to_gateway_file({"type": "input_file", "file_url": "https://x.example/a"}))
        == "[file]"
    )
    assert (
        placeholder(to_gateway_image({"type": "input_image", "image_url": "https://x"}))
        == "[image]"
    )


def test_files_other_than_text_may_show_images() -> None:
    assert may_show_images(to_gateway_image({"type": "input_image", "image_url": "https://x"}))
    assert may_show_images(to_gateway_file(file_part(b"%PDF-1.7")))
    assert may_show_images(
        to_gateway_file({"type": "input_file", "file_url": "https://x.example/a"})
    )
    assert not may_show_images(to_gateway_file(file_part(b"Hi")))
    text = {"type": "input_text", "text": "Hi"}
    assert not may_show_images(text)
    assert not is_medium(text)


def test_a_picture_of_more_than_the_gateway_takes_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "MAX_MESSAGE_BYTES", 3)
    with pytest.raises(MessageTooLarge):
        to_gateway_image({"type": "input_image", "image_url": "data:image/png;base64,AAAA"})
