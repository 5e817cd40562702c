"""A real MariaDB: any character has a place in it, also in tables that OpenStack's migrations make, and in old ones."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openvstorage.aio.mariadb import MariaDB
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor

NAME = "volume \N{FLOPPY DISK}"
Ask = Callable[[str], str]


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    yield paths
    paths.purge()


@pytest.fixture
def database(paths: Paths) -> Iterator[MariaDB]:
    supervisor = Supervisor(paths)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield MariaDB(paths, supervisor, port, "secret")
    supervisor.stop_all()


@pytest.fixture
def ask(paths: Paths) -> Ask:
    def execute(statements: str) -> str:
        command = ["mariadb", "--no-defaults", f"--socket={paths.sockets / 'mariadb.sock'}", "--user=root", "--batch"]
        options = ["--skip-column-names", "--default-character-set=utf8mb4"]
        return subprocess.run(
            [*command, *options], input=statements, check=True, capture_output=True, text=True
        ).stdout.strip()

    return execute


def test_tables_that_ask_for_utf8_as_openstacks_do_hold_any_character(database: MariaDB, ask: Ask) -> None:
    assert database.url("cinder").endswith("?charset=utf8mb4")
    assert database.start(("cinder",)) == "started"
    table = "CREATE TABLE cinder.volumes (name VARCHAR(255)) CHARACTER SET utf8;"
    assert ask(f"{table} INSERT INTO cinder.volumes VALUES ('{NAME}'); SELECT name FROM cinder.volumes;") == NAME


def test_tables_of_an_earlier_version_are_converted_with_what_they_hold(database: MariaDB, ask: Ask) -> None:
    database.start(("cinder", "nova"))
    ask(
        "ALTER DATABASE cinder CHARACTER SET utf8mb3; USE cinder;"
        "CREATE TABLE volumes (id VARCHAR(36) PRIMARY KEY, name VARCHAR(255)) CHARACTER SET utf8mb3;"
        "CREATE TABLE snapshots (id VARCHAR(36) PRIMARY KEY, volume VARCHAR(36) REFERENCES volumes (id),"
        " CONSTRAINT of FOREIGN KEY (volume) REFERENCES volumes (id)) CHARACTER SET utf8mb3;"
        "INSERT INTO volumes VALUES ('1', 'größer'); INSERT INTO snapshots VALUES ('2', '1');"
    )
    with pytest.raises(subprocess.CalledProcessError):
        ask(f"INSERT INTO cinder.volumes VALUES ('3', '{NAME}');")
    assert database.start(("cinder", "nova")) == "running"
    ask(f"INSERT INTO cinder.volumes VALUES ('3', '{NAME}');")
    assert ask("SELECT name FROM cinder.volumes ORDER BY id;").split("\n") == ["größer", NAME]
    with pytest.raises(subprocess.CalledProcessError):
        ask("DELETE FROM cinder.volumes WHERE id = '1';")
    assert ask("SHOW CREATE DATABASE cinder;").count("utf8mb4")
