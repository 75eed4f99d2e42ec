"""Files: written, listed, read, uploaded and downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance.client import eventually
from chowder_local.conformance.drift import answered, invalid, is_recent, refused, rejected
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient

FOLDER_PATH = "workspace/conformance"
TEXT = "Hello, \u00fcber \U0001f99e\n"
BYTES = bytes(range(256)) * 4096


@pytest.mark.read_only
def test_the_root_is_the_agents_home(api: ContractClient, present: str) -> None:
    def listing(query: str) -> Any:
        return answered(api.get(f"instances/{present}/files{query}"))

    # The agent may write files meanwhile.
    eventually(lambda: "" if listing("") == listing("?path=.") else None, "they are the same")
    kinds = {entry["name"]: entry["is_dir"] for entry in listing("")["entries"]}
    assert (kinds["openclaw.json"], kinds["workspace"]) == (False, True)


def test_a_written_file_is_listed_and_read(api: ContractClient, agent: str) -> None:
    files, path = f"instances/{agent}/files", f"{FOLDER_PATH}/deep/er/\u00fcber \U0001f99e.md"
    answered(api.put(f"{files}/content", json={"path": path, "content": TEXT}))

    read = answered(api.get(f"{files}/content", params={"path": path}))
    assert read == {"path": path, "content": TEXT}

    folder = path.rpartition("/")[0]
    listing = answered(api.get(files, params={"path": folder}))
    assert listing["path"] == folder
    (entry,) = listing["entries"]
    assert (entry["path"], entry["name"]) == (path, path.rpartition("/")[2])
    assert (entry["is_dir"], entry["size"]) == (False, len(TEXT.encode()))
    assert is_recent(entry["mod_time"])


def test_a_file_can_be_overwritten(api: ContractClient, agent: str) -> None:
    files, path = f"instances/{agent}/files", f"{FOLDER_PATH}/anew.md"
    for content in (TEXT, "", "shorter"):
        answered(api.put(f"{files}/content", json={"path": path, "content": content}))
        read = answered(api.get(f"{files}/content", params={"path": path}))
        assert read["content"] == content


def test_an_uploaded_file_is_downloaded_unchanged(api: ContractClient, agent: str) -> None:
    files, path = f"instances/{agent}/files", f"{FOLDER_PATH}/bytes.bin"
    answered(api.post(f"{files}/upload", data={"path": path}, files={"file": ("b.bin", BYTES)}))
    answer = api.get(f"{files}/download", params={"path": path})
    assert answered(answer) == BYTES
    assert answer.headers["Content-Disposition"].startswith("attachment")


OUTSIDE = ("../outside", "/etc/passwd", "workspace/../../outside", "workspace/../../../etc/passwd")


def test_paths_outside_the_root_are_refused(api: ContractClient, agent: str) -> None:
    files = f"instances/{agent}/files"
    with every_row() as row:
        for path in OUTSIDE:
            for answer in (
                api.get(files, params={"path": path}),
                api.get(f"{files}/content", params={"path": path}),
                api.get(f"{files}/download", params={"path": path}),
                api.put(f"{files}/content", json={"path": path, "content": "x"}),
                api.post(f"{files}/upload", data={"path": path}, files={"file": ("x", b"x")}),
            ):
                with row(f"{answer.request.method} {answer.request.url.path} of {path}"):
                    rejected(answer)


@pytest.mark.read_only
def test_a_missing_file_is_not_found(api: ContractClient, present: str) -> None:
    files, params = f"instances/{present}/files", {"path": f"{FOLDER_PATH}/nowhere.md"}
    refused(api.get(files, params=params), 404)
    refused(api.get(f"{files}/content", params=params), 404)
    refused(api.get(f"{files}/download", params=params), 404)


@pytest.mark.read_only
def test_an_upload_needs_a_path_and_a_file(api: ContractClient, present: str) -> None:
    upload = f"instances/{present}/files/upload"
    invalid(api.post(upload, files={"file": ("x", b"x")}), "body", "path")
    invalid(api.post(upload, data={"path": "x"}, files={"no": ("x", b"")}), "body", "file")
