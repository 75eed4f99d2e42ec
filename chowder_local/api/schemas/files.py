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
    """Which folder is to be listed."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description='Relative to the instance root, which is "."; links are not followed.',
            examples=["workspace"],
        ),
    ] = "."


class FileQuery(BaseModel):
    """Which file is meant."""

    path: Path


class FileWriting(BaseModel):
    """A text file as it is to be. Folders above it are made; one that is there is replaced."""

    path: Path
    content: Annotated[str, Field(examples=["# Notes\n"])]


class FileUpload(BaseModel):
    """A form with a file. The two parts may come in any order."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description="The file it becomes; or a folder, if one is there or the path ends with "
            '"/": then the upload\'s own file name is used in it.',
            examples=["workspace/logo.png"],
        ),
    ]
    file: Annotated[bytes, Field(description="The content, of any length.", examples=["any bytes"])]


class FileView(BaseModel):
    """A text file."""

    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    content: Annotated[str, Field(examples=["# Notes\n"])]


class EntryView(BaseModel):
    """One thing in a folder. Bytes of a name that are not UTF-8 are shown as U+FFFD."""

    name: Annotated[str, Field(examples=["notes.md"])]
    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    is_dir: Annotated[bool, Field(examples=[False])]
    size: Annotated[int, Field(description="In bytes.", examples=[1024])]
    mod_time: datetime
    permissions: Annotated[str, Field(examples=["-rw-r--r--"])]


class FolderView(BaseModel):
    """What is in a folder, sorted by name."""

    path: Annotated[str, Field(examples=["workspace"])]
    entries: list[EntryView]
