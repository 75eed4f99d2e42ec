"""What a seeding has to know of those before it: keys, which a server shows only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chowder_local.core.data_dir import write_private
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from pathlib import Path


class KeptKey(BaseModel):
    """A scoped key that was made."""

    id: str
    raw_key: str


class KeptOrganization(BaseModel):
    """An organization that was seeded; `key` is None for the default one, whose key has a file.

    `model_keys` are digests of what was set, and `started_at` is which life of the server it was
    set in: each sets the default organization's anew.
    """

    id: str
    key: str | None = None
    model_keys: dict[ModelProvider, str] = Field(default_factory=dict)
    started_at: str | None = None
    keys: dict[str, KeptKey] = Field(default_factory=dict)


ORGANIZATIONS = TypeAdapter(
    dict[str, KeptOrganization], config=ConfigDict(hide_input_in_errors=True)
)


class Memory:
    """A file in the data directory that only its owner can read; written with every change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.organizations = self._read()

    def write(self) -> None:
        """Keeps what is known now. Raises DataDirUnusable."""
        write_private(self._file, ORGANIZATIONS.dump_json(self.organizations, indent=2))

    def _read(self) -> dict[str, KeptOrganization]:
        try:
            return ORGANIZATIONS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as failure:
            raise DataDirUnusable(
                f"{self._file} cannot be read: {failure}. It has the keys of seeded "
                "organizations; mend it, or remove it and they are made anew."
            ) from None
