"""Where a data directory has its files, and which variables name the directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from platformdirs import user_data_path

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "CHOWDER_"
CLIENT_NAMES = frozenset(
    {
        "CHOWDER_BASE_URL",
        "CHOWDER_KEY",
        "CHOWDER_REMOTE_KEY",
        "CHOWDER_COMMAND",
        "CHOWDER_TEST_RECORD",
    }
)
"""Variables with our prefix that clients read; `chowder-local env` prints them."""
DATA_DIR = "CHOWDER_DATA_DIR"
KEY_FILE = "CHOWDER_KEY_FILE"


def default_data_dir() -> Path:
    """The data directory if nothing names one."""
    return user_data_path("chowder-local")


def absolute(path: Path) -> Path:
    """A detached server runs in another directory, and only a shell expands a "~"."""
    return path.expanduser().absolute()


@dataclass(eq=False, repr=False)
class _InDataDir:
    """A path in the data directory."""

    name: str

    def __get__(self, layout: DataDirLayout, _: type[DataDirLayout]) -> Path:
        return layout.data_dir / self.name


class DataDirLayout:
    """The files of `data_dir`, which a subclass has as an attribute, and `key_file` too."""

    if TYPE_CHECKING:
        # Annotations would make them fields of a model, in front of all others.
        data_dir: Path
        key_file: Path | None

    @property
    def default_key_file(self) -> Path:
        """The file of the default organization's API key."""
        return self.key_file or self.data_dir / "default.key"

    @property
    def has_lost_database(self) -> bool:
        """Whether a server has used the directory, and its database is missing or empty now."""
        database = self.database_file
        return self.store_file.exists() and not (database.exists() and database.stat().st_size)

    database_file: ClassVar = _InDataDir("chowder.db")
    secret_file: ClassVar = _InDataDir("secret.key")
    """The secret that encrypts data at rest and from which internal tokens are derived."""
    seed_file: ClassVar = _InDataDir("seed.json")
    """The keys that `seed` has created: a server returns a key only once."""
    snapshots_dir: ClassVar = _InDataDir("snapshots")
    leases_dir: ClassVar = _InDataDir("leases")
    """Leases of test runs: the next run removes what a killed one left."""
    store_file: ClassVar = _InDataDir("store.id")
    """The store's id, a label of everything that the server makes on the engine."""
    lock_file: ClassVar = _InDataDir("server.lock")
    """Locked while a server runs on the data directory."""
    run_file: ClassVar = _InDataDir("server.json")
    """The running server's `pid`, `base_url`, `version`, `settings` and more."""
    last_run_file: ClassVar = _InDataDir("server.json.last")
    """The run file of the server that ended last, which has its address."""
    log_file: ClassVar = _InDataDir("server.log")
    """The log of a detached server."""


@dataclass
class DataDir(DataDirLayout):
    """A data directory of which nothing but its files is wanted."""

    data_dir: Path
    key_file: Path | None = None

    @classmethod
    def read(cls, env: Mapping[str, str], data_dir: Path | None = None) -> Self:
        """The directory and the key's file that the environment names; `data_dir` wins."""
        key_file = env.get(KEY_FILE)
        if data_dir is None and (variable := env.get(DATA_DIR)) is not None:
            data_dir = Path(variable)
        return cls(
            default_data_dir() if data_dir is None else absolute(data_dir),
            None if key_file is None else absolute(Path(key_file)),
        )
