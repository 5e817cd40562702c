"""A PostgreSQL server of one's own: started by hand in a new directory, on a Unix socket only, and stopped afterwards.

Needs Debian's package ``postgresql`` (the programs, not its service). PostgreSQL refuses to run as root, so root starts
it as the user ``postgres``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

_RUNUSER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")


def programs() -> Path | None:
    """:returns: where the newest PostgreSQL's programs are; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """The server; use it by ``with``."""

    def __init__(self) -> None:
        bin_directory = programs()
        if bin_directory is None:
            raise RuntimeError("no PostgreSQL below /usr/lib/postgresql: install the package postgresql")
        self._bin = bin_directory
        # A short path, for a Unix socket's has at most 107 bytes; and one that the user postgres can reach.
        self._root = Path(tempfile.mkdtemp(prefix="pg-"))

    def __enter__(self) -> PostgresServer:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._root, owner.pw_uid, owner.pw_gid)
        try:
            self._run("initdb", "--auth=trust", "--username=test", "--no-sync", "--encoding=UTF8", "--locale=C")
            # Without a TCP port nothing else on the machine can be met or disturbed.
            options = f"-c listen_addresses='' -c unix_socket_directories='{self._root}' -c fsync=off"
            self._run("pg_ctl", "start", "--wait", f"--log={self._root}/log", f"--options={options}")
        except subprocess.CalledProcessError as error:
            shutil.rmtree(self._root, ignore_errors=True)
            raise RuntimeError(f"PostgreSQL did not start: {error.stderr}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")
        shutil.rmtree(self._root)

    def new_database(self) -> str:
        """Make an empty database.

        :returns: its SQLAlchemy URL.
        """
        name = f"t{uuid4().hex}"
        self._as_postgres([str(self._bin / "createdb"), "--host", str(self._root), "--username=test", name])
        return f"postgresql+asyncpg://test@/{name}?host={self._root}"

    def _run(self, program: str, *arguments: str) -> None:
        self._as_postgres([str(self._bin / program), f"--pgdata={self._root}/data", *arguments])

    def _as_postgres(self, command: Sequence[str]) -> None:
        prefix = _RUNUSER if os.geteuid() == 0 else ()
        # A file, not a pipe: the server inherits the output of pg_ctl and would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            result = subprocess.run([*prefix, *command], stdout=output, stderr=output, cwd="/", check=False)
            output.seek(0)
            text = output.read().decode()
        if result.returncode:
            raise subprocess.CalledProcessError(result.returncode, command[0], stderr=text)
