"""The memory of earlier seedings, with the keys, which a server shows only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chowder_local.core.data_dir import write_private
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from pathlib import Path


class StoredKey(BaseModel):
    """A scoped key that a seeding made."""

    id: str
    raw_key: str


class StoredOrganization(BaseModel):
    """A seeded organization; `key` is None for the default one, whose key is in a file.

    `model_keys` has the digests of the keys that were set. `started_at` is the start of the server
    that they were set on, because each start sets those of the default organization again.
    """

    id: str
    key: str | None = None
    model_keys: dict[ModelProvider, str] = Field(default_factory=dict)
    started_at: str | None = None
    keys: dict[str, StoredKey] = Field(default_factory=dict)


ORGANIZATIONS = TypeAdapter(
    dict[str, StoredOrganization], config=ConfigDict(hide_input_in_errors=True)
)


@dataclass(eq=False, repr=False)
class Memory:
    """A file in the data directory with mode 0600."""

    file: Path

    def __post_init__(self) -> None:
        self.organizations = self._read()

    def write(self) -> None:
        """Writes the file. Raises DataDirUnusable if it cannot be written."""
        write_private(self.file, ORGANIZATIONS.dump_json(self.organizations, indent=2))

    def _read(self) -> dict[str, StoredOrganization]:
        try:
            return ORGANIZATIONS.validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as failure:
            raise DataDirUnusable(
                f"{self.file} cannot be read: {failure}. It has the keys of seeded organizations. "
                "Correct it, or remove it to have the organizations made again."
            ) from None
