"""MariaDB: the databases of OpenStack's services, in a server of our own on a port of our own.

SQLite would not do: services that write at once lock each other out.
"""

from __future__ import annotations

import shutil
import subprocess

from openvstorage.aio.command import run
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Program, Supervisor, base_environment

__all__ = ["MariaDB"]

_CLIENT = "/usr/bin/mariadb"
# Three bytes a character, MariaDB's old one, hold no emoji: a volume named by one would be an error of the API.
_CHARACTERS = "CHARACTER SET utf8mb4"
# Gives, for each table that has such columns, the statement that changes them.
_CHANGES = """
SELECT CONCAT('ALTER TABLE ', table_schema, '.', table_name, ' ', GROUP_CONCAT(CONCAT(
    'MODIFY `', column_name, '` ', column_type, ' CHARACTER SET utf8mb4 ',
    IF(is_nullable = 'YES', 'NULL', 'NOT NULL'), IFNULL(CONCAT(' DEFAULT ', column_default), '')
) SEPARATOR ', '), ';') AS found
FROM information_schema.columns WHERE table_schema IN (NAMES) AND character_set_name = 'utf8mb3'
AND (table_schema, table_name, column_name) NOT IN (
    SELECT table_schema, table_name, column_name FROM information_schema.key_column_usage
    WHERE referenced_table_name IS NOT NULL AND table_schema IN (NAMES)
    UNION SELECT referenced_table_schema, referenced_table_name, referenced_column_name
    FROM information_schema.key_column_usage
    WHERE referenced_table_name IS NOT NULL AND table_schema IN (NAMES)
) GROUP BY table_schema, table_name;
"""


class MariaDB:
    """One MariaDB server.

    :param port: TCP port on 127.0.0.1.
    :param password: of the user ``openstack``, who owns all databases.
    """

    name = "mariadb"

    def __init__(self, paths: Paths, supervisor: Supervisor, port: int, password: str) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._port = port
        self._password = password
        self._data = paths.data / "mariadb"
        self._socket = paths.sockets / "mariadb.sock"

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database. It holds the password."""
        return f"mysql+pymysql://openstack:{self._password}@127.0.0.1:{self._port}/{database}?charset=utf8mb4"

    def start(self, databases: tuple[str, ...]) -> str:
        """Start the server, making its data directory on first use, and make sure of the databases. Blocks until done.

        Tables of an earlier version, which hold no emoji, are converted, which takes a minute once.

        Raises CommandFailed or ProgramFailed.
        """
        if not (self._data / "mysql").is_dir():
            self._initialise()
        started = self._supervisor.start(self._program())
        self._supervisor.wait_ready(self.name, self._answers)
        self._execute(
            *(f"CREATE DATABASE IF NOT EXISTS {name} {_CHARACTERS};" for name in databases),
            "CREATE USER IF NOT EXISTS openstack@'127.0.0.1';",
            f"ALTER USER openstack@'127.0.0.1' IDENTIFIED BY '{self._password}';",
            *(f"GRANT ALL ON {name}.* TO openstack@'127.0.0.1';" for name in databases),
        )
        self._convert(databases)
        return "started" if started else "running"

    def _convert(self, databases: tuple[str, ...]) -> None:
        """Give columns of an earlier version four bytes a character; one that is cut off goes on at the next start.

        Those that refer to each other between tables cannot be changed, and hold nothing but identifiers.
        """
        names = ", ".join(f"'{name}'" for name in databases)
        changes = self._execute(_CHANGES.replace("NAMES", names)).splitlines()[1:]
        if changes:
            self._execute(*(f"ALTER DATABASE {name} {_CHARACTERS};" for name in databases), *changes)

    def _initialise(self) -> None:
        # Made beside its place and renamed, so that one that was interrupted is not taken for whole.
        fresh = self._data.with_name("mariadb.new")
        shutil.rmtree(fresh, ignore_errors=True)
        run(
            "the making of MariaDB's data directory",
            [
                *("/usr/bin/mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={fresh}"),
                *("--auth-root-authentication-method=socket", "--auth-root-socket-user=root"),
                *("--skip-test-db", "--skip-name-resolve"),
            ],
            self._supervisor.log(self.name),
        )
        fresh.rename(self._data)

    def _program(self) -> Program:
        return Program(
            name=self.name,
            argv=(
                *("/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={self._data}"),
                *(f"--socket={self._socket}", f"--pid-file={self._paths.run / 'mariadb.pid'}"),
                *("--bind-address=127.0.0.1", f"--port={self._port}", "--skip-name-resolve", "--max-connections=400"),
                # What OpenStack's migrations make tables of is "utf8", which is the old one unless this says no.
                *(
                    "--character-set-server=utf8mb4",
                    "--old-mode=",
                    "--innodb-buffer-pool-size=128M",
                    "--performance-schema=OFF",
                ),
                # A cloud for trying out: a power failure may cost the last second, not the tables.
                *("--innodb-flush-log-at-trx-commit=2", "--skip-log-bin"),
            ),
            stop_seconds=30,
            stop_stage=2,
        )

    def _client(self) -> list[str]:
        return [_CLIENT, "--no-defaults", f"--socket={self._socket}", "--user=root", "--batch"]

    def _answers(self) -> bool:
        # The socket exists before the server answers, and outlives one that was killed: only a query tells.
        if not self._socket.exists():
            return False
        probe = [*self._client(), "--connect-timeout=5", "--execute=DO 0"]
        return subprocess.run(probe, env=base_environment(), capture_output=True, check=False).returncode == 0

    def _execute(self, *statements: str) -> str:
        # Through standard input: a command line is public.
        return run(
            "the set-up of the databases",
            self._client(),
            self._paths.log / "databases.log",
            stdin="\n".join(statements),
        )
