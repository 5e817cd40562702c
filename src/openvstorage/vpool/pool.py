"""The data directory of a pool: who uses it, whose it is, and whether the database that comes with it is its own.

A marker file beside the layers holds the pool's guid and a generation that grows with every start and every few
seconds of service; the database holds the same two. A database that is older than the marker is a copy from the past:
it does not know what was written since, and would take newer files for rubbish.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL

from openvstorage.vpool.config import STATE_FILE_NAME, write_private
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.cluster import Setting
from openvstorage.vpool.model.database import Database

log = logging.getLogger(__name__)

MARKER = "pool.json"


class PoolError(Exception):
    """The directory can not be served; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class PoolDirectory:
    """Paths in a data directory."""

    root: Path

    def check(self) -> None:
        """Refuse what others could change under us, and what lies elsewhere than it seems to.

        The directory itself may have been found by a symbolic link. Where the bytes are, none will do: how much room
        there is is asked of the directory's file system, and files are set aside by renaming them.

        :raises PoolError: with what to do.
        """
        if self.root.stat().st_mode & stat.S_IWOTH:
            raise PoolError(f"every user of this machine can change {self.root}: 'chmod o-w {self.root}' first")
        for path in (self.layers, self.root / "lost+found"):
            if path.is_symlink():
                raise PoolError(
                    f"{path} is a symbolic link: put a directory in its place, "
                    f"or have all of {self.root} where it leads to and give that as --data"
                )
            if path.exists() and not path.is_dir():
                raise PoolError(f"{path} is not a directory: move it away")

    @property
    def layers(self) -> Path:
        """Where the image files are."""
        return self.root / "layers"

    @property
    def logs(self) -> Path:
        """Output of the storage daemons."""
        return self.root / "log"

    @property
    def tls(self) -> Path:
        """The certificate authority and the server's certificate."""
        return self.root / "tls"

    @property
    def password_file(self) -> Path:
        """The generated password of the administrator."""
        return self.root / "admin-password"

    @property
    def state_file(self) -> Path:
        """What ``openvstorage status`` reads; written at each start."""
        return self.root / STATE_FILE_NAME

    @property
    def upkeep_file(self) -> Path:
        """What the running service has still to do; ``openvstorage status`` reads it."""
        return self.root / "upkeep.json"

    def database_url(self) -> URL:
        """:returns: SQLAlchemy URL of the embedded database. Not as a text, in which some paths mean something else."""
        return URL.create("sqlite+aiosqlite", database=str(self.root / "model.sqlite3"))

    def run_dir(self, pool_guid: str) -> Path:
        """:returns: a directory with a short path for sockets (Unix allows 107 bytes), of ours alone; made if missing.
            Below what systemd gives as ``RuntimeDirectory=``, if it does.

        :raises PoolError: somebody else owns it.
        """
        given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
        parent = Path(given) if given else base / f"openvstorage-{os.getuid()}"
        path = parent / pool_guid[:8]
        for directory in (parent, path):
            if not directory.is_symlink():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                raise PoolError(f"{directory} belongs to another user: remove it, or ask them to")
            directory.chmod(0o700)
        return path


class PoolLock:
    """Keeps a second service off a data directory for as long as this process lives."""

    def __init__(self, root: Path) -> None:
        self._path = root / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise PoolError(
                f"{self._path.parent} is served by another process already: "
                f"'openvstorage status --data {self._path.parent}' tells which"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(slots=True)
class Claim:
    """A directory and a database that belong together.

    :ivar guid: of the pool.
    """

    guid: str
    _generation: int
    _directory: PoolDirectory
    _db: Database

    async def advance(self) -> None:
        """Begin a new generation, so that copies made before are recognised as such."""
        self._generation += 1
        value = {"guid": self.guid, "generation": self._generation}
        # the database first: if we die here, the marker is the older one, which is no reason to refuse anything
        async with self._db.write() as session:
            await session.merge(Setting(name="pool", value=value))
        try:
            await asyncio.to_thread(write_private, self._directory.root / MARKER, json.dumps(value) + "\n")
        except OSError as error:
            # a full disk must not keep anybody from deleting; the next generation makes up for it
            log.warning("%s: %s", self._directory.root / MARKER, error.strerror)


async def claim(directory: PoolDirectory, db: Database, *, accept_database: bool) -> Claim:
    """Make sure that directory and database belong together, and begin a new generation.

    :param accept_database: take a database that is older than the directory, or one of another copy, all the same.
    :raises PoolError: they do not belong together.
    """
    marker = _read_marker(directory)
    async with db.read() as session:
        row = await session.get(Setting, "pool")
    known = dict(row.value) if row is not None else None
    if marker is not None and not accept_database:
        _compare(directory, marker, known)
    if marker is None and known is not None and not accept_database:
        raise PoolError(
            f"the database knows a pool, but {directory.root / MARKER} is missing: is {directory.root} the right "
            "directory, and is everything mounted? --accept-database takes it as it is"
        )
    guid = str((known or marker or {"guid": new_guid()})["guid"])
    generation = max((int(str(side["generation"])) for side in (marker, known) if side is not None), default=0)
    result = Claim(guid, generation, directory, db)
    await result.advance()
    return result


def _compare(directory: PoolDirectory, marker: dict[str, object], known: dict[str, object] | None) -> None:
    if known is None or known["guid"] != marker["guid"]:
        raise PoolError(
            f"{directory.root} holds the vDisks of another pool than the database knows: put the right database back; "
            "--accept-database takes this one, and sets files that it does not know aside in lost+found"
        )
    if int(str(known["generation"])) < int(str(marker["generation"])):
        raise PoolError(
            f"the database is an older copy (generation {known['generation']}, the pool is at {marker['generation']}): "
            "put the newest one back; --accept-database takes this one, and sets files that it does not know aside in "
            "lost+found"
        )


def _read_marker(directory: PoolDirectory) -> dict[str, object] | None:
    path = directory.root / MARKER
    try:
        value = json.loads(path.read_text())
        return {"guid": str(value["guid"]), "generation": int(value["generation"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PoolError(f"{path} is damaged: restore it, or start with --accept-database after removing it") from error
