"""Bodies: an agent's files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

MAX_PATH_CHARS = 4096

Path = Annotated[
    str,
    Field(
        max_length=MAX_PATH_CHARS,
        description="Relative to the instance root. Symbolic links are not followed.",
        examples=["workspace/notes.md"],
    ),
]


class FolderQuery(BaseModel):
    """The folder to list."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description='Relative to the instance root, which is "."; links are not followed.',
            examples=["workspace"],
        ),
    ] = "."


class FileQuery(BaseModel):
    """The file to read."""

    path: Path


class FileWriting(BaseModel):
    """A text file to create or replace, with the folders above it."""

    path: Path
    content: Annotated[str, Field(examples=["# Notes\n"])]


class FileUpload(BaseModel):
    """A form with a file; its two parts may come in any order."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description='The file to create. If the path ends with "/", or is a folder, the file '
            "gets its name from the upload.",
            examples=["workspace/logo.png"],
        ),
    ]
    file: Annotated[bytes, Field(description="The content, of any size.", examples=["any bytes"])]


class FileView(BaseModel):
    """A text file."""

    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    content: Annotated[str, Field(examples=["# Notes\n"])]


class EntryView(BaseModel):
    """An entry of a folder. Bytes of its name that are not UTF-8 are shown as U+FFFD."""

    name: Annotated[str, Field(examples=["notes.md"])]
    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    is_dir: Annotated[bool, Field(examples=[False])]
    size: Annotated[int, Field(description="In bytes.", examples=[1024])]
    mod_time: datetime
    permissions: Annotated[str, Field(examples=["-rw-r--r--"])]


class FolderView(BaseModel):
    """The entries of a folder, sorted by name."""

    path: Annotated[str, Field(examples=["workspace"])]
    entries: list[EntryView]
